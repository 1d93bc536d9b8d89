import type { Test } from 'tap';

import { until as untilTrue } from '../../lab/process/until.ts';
import { startBmcServer } from '../../lab/sim/bmc-server.ts';
import { simulatedMachine } from '../../lab/sim/bmc-server-machine.ts';
import { SerialPort } from '../../lab/sim/bmc-server-sol.ts';
import { twoMachines } from '../../pxe/timeline.fixture.ts';
import { StoreTimeline, readTimeline } from '../../pxe/timeline-records.ts';
import { MINUTE, systemClock } from '../kernel/clock.ts';
import type { Clock } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import { createIds } from '../kernel/ids.ts';
import { silentLog } from '../kernel/log.ts';
import { ManualClock } from '../kernel/manual-clock.ts';
import { Secret } from '../kernel/secret.ts';
import type { Store } from '../store/store.ts';
import { eachStore, sqliteStore } from '../store/test-stores.ts';
import { followConsole } from './bmc/console.ts';
import { ConsoleCapture } from './console-capture.ts';
import type { ConsoleCaptureDeps } from './console-capture.ts';

type Follow = ConsoleCaptureDeps['follow'];

eachStore(
  'a console is listened to from the reset to the end of its boot, and again after a restart',
  async (t, store) => {
    const clock = await bench(store);
    const consoles: { signal: AbortSignal; print: (text: string) => void }[] = [];
    const follow: Follow = (endpoint, onOutput, signal) => {
      t.match(endpoint, { address: 'm1', port: 623 });
      consoles.push({ signal, print: (text) => onOutput(Buffer.from(text), false) });
      return untilAborted(signal);
    };
    const first = start(t, store, clock, follow);
    await clock.advance(3_000);
    t.equal(consoles.length, 0, 'the BMC has not taken the reset yet');
    await reset(store, clock);
    await until(clock, () => consoles.length === 1);
    consoles[0]!.print('> hello\r\n');
    await first.stop();
    t.equal(consoles[0]!.signal.aborted, true);

    const second = start(t, store, clock, follow);
    await until(clock, () => consoles.length === 2);
    consoles[1]!.print('> again\r\n');
    await ended(store, clock);
    await until(clock, () => consoles[1]!.signal.aborted);
    await second.stop();
    t.equal(consoles.length, 2, 'one for each boot and daemon');
    t.strictSame(await told(store), [
      ['output', { text: '> hello\n' }],
      ['output', { text: '> again\n' }],
    ]);
  },
);

eachStore('a BMC without a console is asked once a boot, and that is noted once', async (t, store) => {
  const clock = await bench(store);
  let asked = 0;
  const { stop } = start(t, store, clock, () => {
    asked += 1;
    return Promise.resolve('absent');
  });
  await reset(store, clock);
  await until(clock, () => asked === 1);
  await clock.advance(5 * MINUTE);
  t.equal(asked, 1);
  await stop();
  t.strictSame(await told(store), [['absent', {}]]);
});

eachStore('a console that is not to be had is tried for two minutes, and the boot goes on', async (t, store) => {
  const clock = await bench(store);
  const asked: number[] = [];
  const { stop } = start(t, store, clock, () => {
    asked.push(clock.now());
    return Promise.reject(new RackstartError('bmc.busy', 'somebody else has it'));
  });
  await reset(store, clock);
  await until(clock, () => asked.length === 4);
  t.strictSame(
    asked.map((at) => Math.round((at - asked[0]!) / 1_000)),
    [0, 15, 45, 105],
  );
  await clock.advance(10 * MINUTE);
  t.equal(asked.length, 4);
  await stop();
  t.strictSame(await told(store), [['given-up', { code: 'bmc.busy' }]]);
});

eachStore('one that ends after a while is taken up again, and says where something is missing', async (t, store) => {
  const clock = await bench(store);
  let asked = 0;
  const { stop } = start(t, store, clock, async (_endpoint, onOutput, signal) => {
    asked += 1;
    onOutput(Buffer.from(`> part ${String(asked)}\n`), false);
    await clock.sleepUntil(clock.now() + MINUTE, signal);
    return 'ended';
  });
  await reset(store, clock);
  await until(clock, () => asked === 8);
  await stop();
  const texts = await told(store);
  t.match(texts.slice(0, 2), [
    ['output', { text: '> part 1\n' }],
    ['output', { text: '> part 2\n', lost: true }],
  ]);
  t.notOk(texts.some(([name]) => name === 'given-up'));
});

sqliteStore(
  "what is kept of a real BMC's console holds no token, and the BMC gets its session back",
  async (t, store) => {
    await twoMachines(store);
    const token = 'q7Jx0_Zt-4kLw8sVb2NfYcR9mHdGpTuE1oXiQa6K5eA';
    const serial = new SerialPort();
    const access = { address: '127.0.0.1', port: 0, username: 'admin', password: 'secret12' };
    const server = await startBmcServer({ ...access, chassis: { ...simulatedMachine().chassis, serial } });
    t.teardown(() => server.stop());
    await store.transaction(async (tx) => {
      const bmc = {
        bmc_address: '127.0.0.1',
        bmc_port: server.port,
        bmc_username: 'admin',
        bmc_cipher_suite: 17,
      } as const;
      await tx.updateTable('machines').set(bmc).where('id', '=', 'm1').execute();
    });
    await reset(store, systemClock);
    const patience = { each: 500, times: 4 };
    const ids = createIds(systemClock);
    const { stop } = start(t, store, systemClock, (endpoint, onOutput, signal) =>
      followConsole(endpoint, { clock: systemClock, ids, patience }, onOutput, signal),
    );
    await untilTrue('the session', 15_000, () => server.sessions === 1);
    await untilTrue('the console', 15_000, async () => {
      serial.print(`\r\n[    0.000000] Command line: boot=rackstart rackstart.token=${token} quiet\r\n`);
      return JSON.stringify(await told(store)).includes('quiet');
    });
    const kept = JSON.stringify(await told(store));
    t.match(kept, `rackstart.token=${'*'.repeat(43)} quiet`);
    t.notMatch(kept, token.slice(0, 8));
    await ended(store, systemClock);
    await untilTrue('the session to end', 15_000, () => server.sessions === 0);
    await stop();
  },
);

/** Machine `m1` with an open boot whose reset is still to come. */
async function bench(store: Store): Promise<ManualClock> {
  await twoMachines(store);
  return new ManualClock(1_000);
}

function start(t: Test, store: Store, clock: Clock, follow: Follow) {
  const stopping = new AbortController();
  const timeline = new StoreTimeline({ store, clock, ids: createIds(clock), log: silentLog });
  const unseal = () => new Secret('secret12');
  const capture = new ConsoleCapture({ read: store.read, timeline, clock, log: silentLog, unseal, follow });
  const written = new AbortController();
  const running = capture.run(stopping.signal).catch((error: unknown) => error);
  const writing = timeline.run(written.signal);
  const stop = async () => {
    stopping.abort();
    await running;
    written.abort();
    await writing;
  };
  t.teardown(stop);
  return { stop };
}

async function reset(store: Store, clock: Clock): Promise<void> {
  const taken = { powered_at: clock.now() };
  await store.transaction((tx) => tx.updateTable('boot_sessions').set(taken).where('id', '=', 's2').execute());
}

async function ended(store: Store, clock: Clock): Promise<void> {
  const over = { ended_at: clock.now() };
  await store.transaction((tx) => tx.updateTable('boot_sessions').set(over).where('id', '=', 's2').execute());
}

async function told(store: Store) {
  const entries = await readTimeline(store.read, { machineId: 'm1' }, 1_000, { withConsole: true });
  return entries.map(({ name, detail }) => [name, detail] as const);
}

function untilAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error));
  });
}

/** Lets time pass until it holds, while real databases answer in their own. */
async function until(clock: ManualClock, holds: () => boolean): Promise<void> {
  while (!holds()) await clock.advance(250);
}
