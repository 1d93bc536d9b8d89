import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync, readFileSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';

import type { Test } from 'tap';
import { test } from 'tap';

import { until } from '../../lab/process/until.ts';
import { scratch } from './qemu-img.fixture.ts';
import { boxed, sandboxMissing } from './sandbox.fixture.ts';

const skip = (await sandboxMissing()) ?? false;
const SHELL = '/usr/bin/dash';
const FIXTURE = join(import.meta.dirname, 'sandbox.fixture.ts');

void test(
  'a program in the sandbox sees libraries and what it was given, and nothing else of the host',
  { skip },
  async (t) => {
    const path = scratch(t);
    writeFileSync(path('given'), 'given');
    const seen = await boxed(
      SHELL,
      ['-c', 'echo /* /etc/* /dev/* /proc/* /home/* /root/* /var/*; read -r x </given; echo "$x"'],
      {
        readable: { '/given': path('given') },
      },
    );
    t.equal(seen.code, 0, seen.output);
    t.same(seen.output.split('\n'), [
      '/dev /given /lib /lib64 /usr /etc/* /dev/null /proc/* /home/* /root/* /var/*',
      'given',
    ]);
    t.match(await boxed('/usr/bin/env', []), { code: 0, output: 'MALLOC_ARENA_MAX=1\nPWD=/' });
  },
);

void test('a program in the sandbox writes what it was given to write, and nowhere else', { skip }, async (t) => {
  const path = scratch(t);
  writeFileSync(path('read'), 'as it was');
  writeFileSync(path('write'), '');
  const script = 'echo a >/write; for at in /read /new /dev/new /usr/lib/new; do echo b >$at; done; echo done';
  const end = await boxed(SHELL, ['-c', script], {
    readable: { '/read': path('read') },
    writable: { '/write': path('write') },
  });
  t.match(end.output, /done$/);
  t.equal(end.output.match(/Read-only file system/g)?.length, 4, end.output);
  t.equal(readFileSync(path('write'), 'utf8'), 'a\n');
  t.equal(readFileSync(path('read'), 'utf8'), 'as it was');
});

void test('a program in the sandbox has no network, not even the loopback of the host', { skip }, async (t) => {
  const listening = `import socket,os; s=socket.socket(); s.settimeout(2); print(s.connect_ex(("127.0.0.1", int("PORT"))))`;
  const { createServer } = await import('node:net');
  const server = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1');
  t.teardown(() => server.close());
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  const program = listening.replace('PORT', String(port));
  t.equal(
    execFileSync('/usr/bin/python3', ['-c', program], { encoding: 'utf8' }).trim(),
    '0',
    'in the open it connects',
  );
  const shut = await boxed('/usr/bin/python3', ['-c', program]);
  t.equal(shut.code, 0, shut.output);
  t.not(shut.output, '0');
});

void test('memory, processor time and file sizes have an end', { skip }, async (t) => {
  const path = scratch(t);
  writeFileSync(path('write'), '');
  const limits = { memoryBytes: 256 * 1024 ** 2, cpuSeconds: 1, fileBytes: 100_000 };
  const greedy = await boxed('/usr/bin/python3', ['-c', 'b"x" * 2**29'], { limits });
  t.match(greedy, { code: 1, output: /MemoryError/ });
  const busy = await boxed(SHELL, ['-c', 'while :; do :; done'], { limits });
  t.match(busy.killedBy ?? '', /SIGXCPU|SIGKILL/, 'time');
  const writable = { '/write': path('write') };
  const wordy = await boxed(SHELL, ['-c', 'while echo 0123456789; do :; done >/write'], { limits, writable });
  t.equal(wordy.killedBy, 'SIGXFSZ');
  t.equal(statSync(path('write')).size, 100_000);
});

void test(
  'what a program says is kept up to its last 4,096 characters, without what a terminal would obey',
  { skip },
  async (t) => {
    const { output } = await boxed(SHELL, [
      '-c',
      'for a in 1 2 3 4 5 6 7 8 9 0; do printf "%01000d" "$a"; done; printf "\\033[2Jend"',
    ]);
    t.equal(output.length, 4096 - 1);
    t.match(output, /0\[2Jend$/);
  },
);

void test('what is aborted is killed with all that it started', { skip }, async (t) => {
  const { fifo, isRead } = pipe(t);
  const abort = new AbortController();
  // The one that reads is a process of its own.
  const script = '(read -r x </fifo) & wait';
  const held = boxed(SHELL, ['-c', script], { readable: { '/fifo': fifo }, signal: abort.signal });
  await until('it reads the pipe', 10_000, isRead);
  abort.abort(new Error('enough'));
  await t.rejects(held, { message: 'enough' });
  await until('nobody reads the pipe', 10_000, () => !isRead());
});

void test('it dies with the daemon, killed as hard as can be', { skip }, async (t) => {
  const { fifo, isRead } = pipe(t);
  const script = `import { boxed } from ${JSON.stringify(FIXTURE)};
    await boxed(${JSON.stringify(SHELL)}, ['-c', 'read -r x </fifo'], { readable: { '/fifo': ${JSON.stringify(fifo)} } });`;
  const daemon = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'inherit' });
  await until('it reads the pipe', 10_000, isRead);
  daemon.kill('SIGKILL');
  await once(daemon, 'exit');
  await until('nobody reads the pipe', 10_000, () => !isRead());
});

void test('a daemon without rights can shut programs in too', { skip: skip || process.getuid?.() !== 0 }, async (t) => {
  // With an ambient capability, as the service has one.
  const script = `import { boxed } from ${JSON.stringify(FIXTURE)};
    console.log(JSON.stringify(await boxed('/usr/bin/true', [])));`;
  const user = ['--reuid=65534', '--regid=65534', '--clear-groups', '--inh-caps=+net_raw', '--ambient-caps=+net_raw'];
  const node = [process.execPath, '--input-type=module', '-e', script];
  const output = execFileSync('setpriv', [...user, '--no-new-privs', ...node], { encoding: 'utf8' });
  t.match(JSON.parse(output), { code: 0 });
});

void test('a program that the host lacks is named as missing', async (t) => {
  t.match(await boxed('/usr/bin/no-such-program', []).catch((error: unknown) => error), { code: 'host.missing' });
});

/** A pipe, and whether somebody reads it: once a reader has come, it has a writer for good, so that it never ends by itself. */
function pipe(t: Test): { fifo: string; isRead: () => boolean } {
  const fifo = scratch(t)('fifo');
  execFileSync('mkfifo', [fifo]);
  let writer: number | undefined;
  t.teardown(() => writer !== undefined && closeSync(writer));
  const isRead = () => {
    try {
      writer ??= openSync(fifo, constants.O_WRONLY | constants.O_NONBLOCK);
      return writeSync(writer, '.') === 1;
    } catch {
      // ENXIO: nobody has opened it; EPIPE: nobody has it any more.
      return false;
    }
  };
  return { fifo, isRead };
}
