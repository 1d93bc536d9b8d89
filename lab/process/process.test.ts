import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import type { Test } from 'tap';

import { endPid, isAlive } from './pid.ts';
import { run } from './run.ts';
import { startProcess } from './start.ts';
import { until } from './until.ts';

test('a started process writes to its log, can be waited for and is gone after stop', async (t) => {
  const logFile = join(folder(t), 'log');
  writeFileSync(logFile, 'ready 0\n');
  const child = await startProcess({
    argv: ['sh', '-c', 'echo ready $PORT; exec sleep 60'],
    env: { PORT: '9' },
    logFile,
  });
  const [, port] = await child.line(/^ready (\d+)$/m, 5_000);
  t.equal(port, '9', 'what an earlier process left in the log does not count');
  t.equal(isAlive(child.pid), true);
  t.same(await child.stop(), { code: null, signal: 'SIGTERM' });
  t.same(await child.stop(), { code: null, signal: 'SIGTERM' });
  t.equal(isAlive(child.pid), false);
  t.equal(readFileSync(logFile, 'utf8'), 'ready 0\nready 9\n');
});

test('a process that does not heed SIGTERM is killed', async (t) => {
  const argv = ['sh', '-c', 'trap "" TERM; echo deaf; while :; do sleep 0.1; done'];
  const child = await startProcess({ argv, logFile: join(folder(t), 'log'), graceMs: 10 });
  await child.line(/deaf/, 5_000);
  t.same(await child.stop(), { code: null, signal: 'SIGKILL' });
});

test('waiting for a line ends with the process, and tells what it wrote', async (t) => {
  const child = await startProcess({
    argv: ['sh', '-c', 'echo no such thing; exit 3'],
    logFile: join(folder(t), 'log'),
  });
  await t.rejects(child.line(/ready/, 5_000), { message: /it ended\n.*\nno such thing/s });
  t.same(await child.ended, { code: 3, signal: null });
});

test('a program that does not exist is an error, not a process', async (t) => {
  await t.rejects(startProcess({ argv: ['/no/such/program'], logFile: join(folder(t), 'log') }), { code: 'ENOENT' });
});

test('run resolves to the output, and rejects with everything that was written', async (t) => {
  t.equal(await run(['cat'], { input: 'through\n' }), 'through\n');
  await t.rejects(run(['sh', '-c', 'echo out; echo err >&2; exit 4']), { message: /exit 4\nout\nerr$/ });
  await t.rejects(run(['sleep', '60'], { withinMs: 1 }), { message: /killed after/ });
});

test('until rejects with what it waited for, and with whatever its condition throws', async (t) => {
  let asked = 0;
  t.equal(await until('the third answer', 5_000, () => (asked++ === 2 ? 'third' : undefined)), 'third');
  await t.rejects(
    until('pigs fly', 1, () => false),
    { message: /in vain: pigs fly/ },
  );
  const broken = () => Promise.reject(new Error('broken'));
  await t.rejects(until('an answer', 5_000, broken), { message: 'broken' });
});

test('a process known only by its number is asked to end and then killed', async (t) => {
  const child = spawn('sh', ['-c', 'trap "" TERM; echo deaf; while :; do sleep 0.1; done']);
  await once(child.stdout, 'data');
  await endPid(child.pid!, 1);
  t.equal(isAlive(child.pid!), false);
  await endPid(child.pid!);
});

for (const end of ['process.kill(process.pid, "SIGTERM")', 'process.exit(7)', 'null.x']) {
  test(`what was registered for an abrupt end runs once on ${end}`, async (t) => {
    const file = join(folder(t), 'cleaned');
    const program = `
      import { appendFileSync } from 'node:fs';
      import { onAbruptEnd } from ${JSON.stringify(join(import.meta.dirname, 'abrupt-end.ts'))};
      const cancel = onAbruptEnd(() => appendFileSync(${JSON.stringify(file)}, 'cancelled '));
      for (const name of ['one ', 'two ']) onAbruptEnd(() => appendFileSync(${JSON.stringify(file)}, name));
      cancel();
      ${end};
      setTimeout(() => {}, 60_000);`;
    await t.rejects(run([process.execPath, '--input-type=module', '--eval', program]));
    t.equal(readFileSync(file, 'utf8'), 'one two ');
  });
}

function folder(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'rs-process-'));
  t.teardown(() => rmSync(path, { recursive: true }));
  return path;
}
