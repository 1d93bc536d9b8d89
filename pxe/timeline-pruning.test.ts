import { createIds } from '../appliance/kernel/ids.ts';
import { HOUR, MINUTE } from '../appliance/kernel/clock.ts';
import { silentLog } from '../appliance/kernel/log.ts';
import { ManualClock } from '../appliance/kernel/manual-clock.ts';
import { RackstartError } from '../appliance/kernel/errors.ts';
import type { Store } from '../appliance/store/store.ts';
import { eachStore } from '../appliance/store/test-stores.ts';
import { FIRST, twoMachines } from './timeline.fixture.ts';
import { TimelinePruning } from './timeline-pruning.ts';
import { StoreTimeline } from './timeline-records.ts';

eachStore('what is too old is deleted, a batch at a time, and the rest stays', async (t, store) => {
  const clock = new ManualClock(0);
  await twoMachines(store);
  await written(store, clock, [...Array<number>(1_200).fill(1), 50 * HOUR, 51 * HOUR]);
  const batches: number[] = [];
  const counted: Store = {
    ...store,
    read: store.read,
    transaction: async (work) => {
      const before = await count(store);
      const result = await store.transaction(work);
      batches.push(before - (await count(store)));
      return result;
    },
  };
  const { stop } = start(counted, clock, 2 * HOUR);
  await until(clock, () => batches.length === 1);
  t.strictSame(batches, [0], 'nothing is too old yet');
  await clock.advance(HOUR);
  await clock.advance(HOUR);
  t.equal(await count(store), 1_202, 'old enough is what is older');
  await clock.advance(HOUR);
  while (batches.reduce((sum, size) => sum + size, 0) < 1_200) await clock.advance(100);
  t.equal(await count(store), 2);
  t.strictSame(
    batches.filter((size) => size > 0),
    [500, 500, 200],
  );
  await stop();
});

eachStore('a store that is away is tried again an hour later', async (t, store) => {
  const clock = new ManualClock(0);
  await twoMachines(store);
  await written(store, clock, [1]);
  let asked = 0;
  const away: Store = {
    ...store,
    read: store.read,
    transaction: (work) => {
      asked += 1;
      return asked === 1 ? Promise.reject(new RackstartError('store.unavailable', 'away')) : store.transaction(work);
    },
  };
  await clock.advance(HOUR);
  const { stop } = start(away, clock, MINUTE);
  await until(clock, () => clock.nextWake() !== undefined);
  t.equal(await count(store), 1);
  await clock.advance(HOUR);
  await until(clock, () => clock.nextWake() === 3 * HOUR);
  t.equal(await count(store), 0);
  await stop();
});

async function written(store: Store, clock: ManualClock, times: readonly number[]): Promise<void> {
  const timeline = new StoreTimeline({ store, clock, ids: createIds(clock), log: silentLog });
  const packet = { from: '10.77.0.11:68', to: '10.77.0.1:67', bytes: Buffer.alloc(300) };
  for (const at of times) timeline.seen(FIRST, { at, source: 'console', name: 'output', detail: {}, packet });
  await timeline.run(AbortSignal.abort());
}

function start(store: Store, clock: ManualClock, keep: number) {
  const stopping = new AbortController();
  const running = new TimelinePruning({ store, clock, log: silentLog, keep }).run(stopping.signal);
  const ended = running.catch((error: unknown) => error);
  return {
    stop: async () => {
      stopping.abort();
      await ended;
    },
  };
}

async function count(store: Store): Promise<number> {
  const { rows } = await store.read
    .selectFrom('timeline')
    .select((eb) => eb.fn.countAll<number | string>().as('rows'))
    .executeTakeFirstOrThrow();
  return Number(rows);
}

/** Lets the event loop turn until it holds: real databases answer in their own time. */
async function until(clock: ManualClock, holds: () => boolean): Promise<void> {
  while (!holds()) await clock.advance(0);
}
