import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { test, type Test } from 'tap';

import { hasCode } from './errors.ts';
import { silentLog } from './log.ts';
import { ManualClock } from './manual-clock.ts';
import { LifeSigns, noSystemd, openSystemd, parseListenFds, parseWatchdog } from './systemd.ts';

const RECEIVER = `
import socket, sys
address = sys.argv[1]
receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver.bind('\\0' + address[1:] if address[0] == '@' else address)
print('listening', flush=True)
while True: print(receiver.recv(4096).decode().replace('\\n', '|'), flush=True)
`;

test('descriptors are told apart by their names, in their order from 3 on', (t) => {
  const handed = { LISTEN_PID: '42', LISTEN_FDS: '2', LISTEN_FDNAMES: 'dhcp:tftp' };
  t.same(parseListenFds(handed, 42), [
    { name: 'dhcp', fd: 3 },
    { name: 'tftp', fd: 4 },
  ]);
  t.same(parseListenFds({ LISTEN_PID: '42', LISTEN_FDS: '1' }, 42), [{ name: 'unknown', fd: 3 }]);
  t.same(parseListenFds({ LISTEN_PID: '42', LISTEN_FDS: '0', LISTEN_FDNAMES: '' }, 42), []);
  t.end();
});

test("another process's descriptors are left alone", (t) => {
  t.same(parseListenFds({ LISTEN_PID: '41', LISTEN_FDS: '2', LISTEN_FDNAMES: 'dhcp:tftp' }, 42), []);
  t.same(parseListenFds({ LISTEN_FDS: '2' }, 42), []);
  t.same(parseListenFds({}, 42), []);
  t.end();
});

test('a damaged hand-over is refused', (t) => {
  const damaged = [
    { LISTEN_FDS: '2', LISTEN_FDNAMES: 'dhcp' },
    { LISTEN_FDS: '1', LISTEN_FDNAMES: 'dhcp:tftp' },
    { LISTEN_FDS: '-1' },
    { LISTEN_FDS: 'many' },
    { LISTEN_FDS: '' },
    { LISTEN_FDS: '99999999' },
  ];
  for (const each of damaged) refuses(t, () => parseListenFds({ LISTEN_PID: '42', ...each }, 42));
  t.end();
});

test('the watchdog period is read in microseconds, and only when it is ours', (t) => {
  t.equal(parseWatchdog({ WATCHDOG_USEC: '30000000', WATCHDOG_PID: '42' }, 42), 30_000);
  t.equal(parseWatchdog({ WATCHDOG_USEC: '30000000' }, 42), 30_000);
  t.equal(parseWatchdog({ WATCHDOG_USEC: '30000000', WATCHDOG_PID: '41' }, 42), undefined);
  t.equal(parseWatchdog({}, 42), undefined);
  for (const text of ['0', '-5', '1e6', '']) refuses(t, () => parseWatchdog({ WATCHDOG_USEC: text }, 42));
  t.end();
});

for (const kind of ['path', 'abstract'] as const) {
  test(`a real receiver hears what is told to its ${kind} address`, async (t) => {
    const address = kind === 'path' ? join(shortFolder(t), 'notify') : `@rs-notify-${process.pid}`;
    const receiver = await listen(t, address);
    if (receiver === undefined) return;
    const systemd = openSystemd({ NOTIFY_SOCKET: address }, process.pid, silentLog);
    systemd.notify('READY=1', 'STATUS=serving');
    t.equal(await receiver.heard(), 'READY=1|STATUS=serving');
    systemd.notify('STOPPING=1');
    t.equal(await receiver.heard(), 'STOPPING=1');
  });
}

test('nobody to tell is no failure', (t) => {
  const warned: string[] = [];
  const log = { ...silentLog, warn: (_: object, message: string) => void warned.push(message) };
  openSystemd({}, process.pid, log).notify('READY=1');
  t.same(warned, [], 'nothing is tried without NOTIFY_SOCKET');
  for (const address of ['/nowhere/notify', '@nobody', 'relative', `/${'long'.repeat(40)}`]) {
    openSystemd({ NOTIFY_SOCKET: address }, process.pid, log).notify('READY=1');
  }
  t.equal(warned.length, 4);
  t.equal(openSystemd({}, process.pid, log).takeSocket('dhcp'), undefined);
  t.end();
});

test('signs of life follow readiness, twice a period, for as long as the store answers', async (t) => {
  const life = start();
  await life.clock.advance(20_000);
  t.same(life.told, [], 'nothing before everything listens');
  life.ready.resolve(undefined);
  await life.clock.advance(0);
  t.same(life.take(), ['READY=1 STATUS=serving', 'WATCHDOG=1']);
  await life.clock.advance(30_000);
  t.same(life.take(), ['WATCHDOG=1', 'WATCHDOG=1']);

  life.probe = () => Promise.reject(new Error('no store'));
  await life.clock.advance(30_000);
  t.same(life.take(), [], 'a store that fails');
  life.probe = () => Promise.resolve();
  await life.clock.advance(15_000);
  t.same(life.take(), ['WATCHDOG=1'], 'a store that is back');
  life.probe = () => new Promise(() => undefined);
  await life.clock.advance(60_000);
  t.same(life.take(), [], 'a store that hangs');

  await life.stop();
  t.same(life.take(), ['STOPPING=1 STATUS=stopping'], 'the hanging probe keeps nobody');
});

test('a daemon that never became ready says only that it stops', async (t) => {
  const life = start();
  life.ready.reject(new Error('a port is taken'));
  await life.clock.advance(60_000);
  await life.stop();
  t.same(life.take(), ['STOPPING=1 STATUS=stopping']);
});

function start() {
  const clock = new ManualClock();
  const told: string[] = [];
  const stopping = new AbortController();
  const ready = Promise.withResolvers<undefined>();
  const life = {
    clock,
    told,
    ready,
    probe: (): Promise<unknown> => Promise.resolve(),
    take: () => told.splice(0),
    async stop() {
      stopping.abort();
      await running;
    },
  };
  const systemd = { ...noSystemd, watchdog: 30_000, notify: (...all: string[]) => void told.push(all.join(' ')) };
  const probe = () => life.probe();
  const running = new LifeSigns({ systemd, ready: ready.promise, probe, clock, log: silentLog }).run(stopping.signal);
  return life;
}

function refuses(t: Test, work: () => unknown): void {
  try {
    t.fail(`refused: ${JSON.stringify(work())}`);
  } catch (error) {
    t.ok(hasCode(error, 'config.invalid'), String(error));
  }
}

// The address of a unix socket has room for 107 bytes: the test runner's own folders are named longer.
function shortFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'rs-notify-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  return folder;
}

async function listen(t: Test, address: string): Promise<{ heard(): Promise<string> } | undefined> {
  const child = spawn('/usr/bin/python3', ['-c', RECEIVER, address], { stdio: ['ignore', 'pipe', 'inherit'] });
  const spawned = await Promise.race([once(child, 'spawn').then(() => true), once(child, 'error').then(() => false)]);
  if (!spawned) {
    t.plan(0, 'python3 is missing');
    return undefined;
  }
  t.teardown(() => child.kill());
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const heard = async () => String((await lines.next()).value);
  t.equal(await heard(), 'listening');
  return { heard };
}
