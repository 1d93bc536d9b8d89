import { createIds } from '../appliance/kernel/ids.ts';
import { silentLog } from '../appliance/kernel/log.ts';
import { ManualClock } from '../appliance/kernel/manual-clock.ts';
import { RackstartError } from '../appliance/kernel/errors.ts';
import type { Store } from '../appliance/store/store.ts';
import { eachStore } from '../appliance/store/test-stores.ts';
import type { Mac } from './boot-client.ts';
import { parseMac } from './boot-client.ts';
import type { TimelineEntry } from './timeline.ts';
import { FIRST, SECOND, twoMachines } from './timeline.fixture.ts';
import { StoreTimeline, readTimeline, wholeTimeline } from './timeline-records.ts';

const STRANGER = parseMac('52:54:00:aa:bb:cc') as Mac;

eachStore('entries are written under their machine and the boot session that was open then', async (t, store) => {
  const { clock, timeline, stop } = await start(store);
  timeline.seen(FIRST, entry(50, 'before'));
  timeline.seen(FIRST, entry(150, 'discover', { boot: 'script', ms: 1.5 }));
  timeline.seen(FIRST, entry(200, 'at the seam'));
  timeline.seen(FIRST, entry(350, 'after'));
  timeline.seen(SECOND, entry(150, 'other machine'));
  timeline.seen(STRANGER, entry(150, 'stranger'));
  await clock.advance(250);
  await stop();
  const seen = await readTimeline(store.read, { machineId: 'm1' });
  t.strictSame(
    seen.map(({ at, name, machineId, sessionId }) => [at, name, machineId, sessionId]),
    [
      [50, 'before', 'm1', undefined],
      [150, 'discover', 'm1', 's1'],
      [200, 'at the seam', 'm1', 's2'],
      [350, 'after', 'm1', 's2'],
    ],
  );
  t.strictSame(seen[1]?.detail, { boot: 'script', ms: 1.5 });
  t.strictSame(seen[1]?.source, 'dhcp');
  const bySession = await readTimeline(store.read, { sessionIds: ['s1', 's2'] });
  t.strictSame(
    bySession.map(({ name }) => name),
    ['discover', 'at the seam', 'after'],
  );
  t.strictSame(await readTimeline(store.read, { sessionIds: [] }), []);
  t.strictSame(
    (await readTimeline(store.read, { machineId: 'm1' }, 2)).map(({ at }) => at),
    [200, 350],
    'the newest',
  );
  t.strictSame(
    (await readTimeline(store.read, { machineId: 'm2' })).map(({ name }) => name),
    ['other machine'],
  );
});

eachStore('an address means the machine that it is reserved for, and nobody else', async (t, store) => {
  const { timeline, stop } = await start(store);
  timeline.seen({ address: '10.77.0.11' }, entry(150, 'reserved'));
  timeline.seen(FIRST, entry(151, 'by its MAC'));
  timeline.seen({ address: '10.77.0.12' }, entry(152, 'of the other'));
  timeline.seen({ address: '10.77.0.99' }, entry(153, "a server's, on the same machine"));
  timeline.seen({ address: '10.77.0.200' }, entry(154, "a stranger's"));
  timeline.seen({ address: '' }, entry(155, 'of a connection that is gone'));
  timeline.seen({ address: "'; drop table addresses; --" }, entry(156, 'hostile'));
  await stop();
  const namesOf = async (machineId: string) =>
    (await readTimeline(store.read, { machineId })).map(({ name, sessionId }) => [name, sessionId]);
  t.strictSame(await namesOf('m1'), [
    ['reserved', 's1'],
    ['by its MAC', 's1'],
  ]);
  t.strictSame(await namesOf('m2'), [['of the other', undefined]]);
});

eachStore('what waits when the timeline is told to stop is written', async (t, store) => {
  const { timeline, stop } = await start(store);
  for (let at = 1; at <= 1200; at += 1) timeline.seen(FIRST, entry(at, 'packet'));
  await stop();
  t.equal((await readTimeline(store.read, { machineId: 'm1' })).length, 1200, 'more than one statement takes');
  t.equal(timeline.dropped, 0);
});

eachStore('entries of the same moment keep their order', async (t, store) => {
  const { timeline, stop } = await start(store);
  const names = Array.from({ length: 50 }, (_, index) => `e${index}`);
  for (const name of names) timeline.seen(FIRST, entry(150, name));
  await stop();
  t.strictSame(
    (await readTimeline(store.read, { machineId: 'm1' })).map(({ name }) => name),
    names,
  );
});

eachStore('a storm drops the oldest, counts them, and keeps the newest', async (t, store) => {
  const { timeline, stop } = await start(store, 10);
  for (let at = 1; at <= 25; at += 1) timeline.seen(FIRST, entry(at, 'packet'));
  await stop();
  t.equal(timeline.dropped, 15);
  t.strictSame(
    (await readTimeline(store.read, { machineId: 'm1' })).map(({ at }) => at),
    Array.from({ length: 10 }, (_, index) => index + 16),
  );
});

eachStore('a store that is away for a while loses nothing', async (t, store) => {
  let away = true;
  const flaky: Store = {
    ...store,
    read: store.read,
    transaction: async (work) => {
      if (away) throw new RackstartError('store.unavailable', 'away');
      return store.transaction(work);
    },
  };
  const { clock, timeline, stop } = await start(store, 100, flaky);
  timeline.seen(FIRST, entry(1, 'first'));
  await until(clock, () => clock.nextWake() !== undefined);
  await clock.advance(250);
  // It failed and waits for its next try.
  await until(clock, () => clock.nextWake() === 2250);
  timeline.seen(FIRST, entry(2, 'second'));
  away = false;
  await stop();
  t.strictSame(
    (await readTimeline(store.read, { machineId: 'm1' })).map(({ name }) => name),
    ['first', 'second'],
  );
});

eachStore('an entry that cannot be kept as it is does not keep others out', async (t, store) => {
  const { timeline, stop } = await start(store);
  const circle: Record<string, unknown> = {};
  circle['self'] = circle;
  timeline.seen(FIRST, entry(1, 'circle', circle));
  timeline.seen(FIRST, entry(2, 'long', { text: 'x'.repeat(10_000) }));
  timeline.seen(FIRST, entry(3, 'hostile', { text: "a\0b'; drop table timeline; --\ud800" }));
  await stop();
  t.strictSame(
    (await readTimeline(store.read, { machineId: 'm1' })).map(({ detail }) => detail),
    [{ leftOut: 'not JSON' }, { leftOut: '10011 characters' }, { text: "a\0b'; drop table timeline; --\ud800" }],
  );
});

eachStore('packets and the console are read when they are asked for', async (t, store) => {
  const { timeline, stop } = await start(store);
  const packet = { from: '10.77.0.11:68', to: '10.77.0.1:67', bytes: Buffer.from([1, 0, 255]) };
  timeline.seen(FIRST, { ...entry(150, 'request'), packet });
  timeline.seen(FIRST, { ...entry(151, 'output', { text: 'login: ' }), source: 'console' });
  await stop();
  const brief = await readTimeline(store.read, { sessionIds: ['s1'] });
  t.match(brief, [{ name: 'request', packet: undefined }]);
  t.equal(brief.length, 1);
  const withConsole = await readTimeline(store.read, { machineId: 'm1' }, 10, { withConsole: true });
  t.match(withConsole, [
    { name: 'request', packet: undefined },
    { name: 'output', detail: { text: 'login: ' } },
  ]);
  t.match(await whole(store, 's1'), [{ name: 'request', packet }, { name: 'output' }]);
});

eachStore('the whole timeline of a boot is read in its order, however long it is', async (t, store) => {
  const { timeline, stop } = await start(store);
  // Three to a moment, so that pages end within one.
  for (let index = 0; index < 1_100; index += 1) timeline.seen(FIRST, entry(200 + Math.floor(index / 3), `e${index}`));
  timeline.seen(FIRST, entry(150, 'of the boot before'));
  await stop();
  t.strictSame(
    (await whole(store, 's2')).map(({ name }) => name),
    Array.from({ length: 1_100 }, (_, index) => `e${index}`),
  );
});

async function whole(store: Store, sessionId: string): Promise<TimelineEntry[]> {
  const entries: TimelineEntry[] = [];
  for await (const one of wholeTimeline(store.read, sessionId)) entries.push(one);
  return entries;
}

function entry(at: number, name: string, detail: Record<string, unknown> = {}): TimelineEntry {
  return { at, source: 'dhcp', name, detail };
}

/** Two machines; the first had a session from 100 to 200 and has another one since. */
async function start(store: Store, capacity?: number, written: Store = store) {
  await twoMachines(store);
  const clock = new ManualClock(0);
  const ids = createIds(clock);
  const timeline = new StoreTimeline({
    store: written,
    clock,
    ids,
    log: silentLog,
    ...(capacity === undefined ? {} : { capacity }),
  });
  const stopping = new AbortController();
  const running = timeline.run(stopping.signal);
  return {
    clock,
    timeline,
    stop: async () => {
      stopping.abort();
      await running;
    },
  };
}

/** Lets the event loop turn until it holds: real databases answer in their own time. */
async function until(clock: ManualClock, holds: () => boolean): Promise<void> {
  while (!holds()) await clock.advance(0);
}
