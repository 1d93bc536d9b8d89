import { createIds } from '../kernel/ids.ts';
import { silentLog } from '../kernel/log.ts';
import type { ManualClock } from '../kernel/manual-clock.ts';
import type { Store, Tx } from '../store/store.ts';
import { eachStore } from '../store/test-stores.ts';
import { Consumer } from './consumer.ts';
import { createEventLog } from './event-log.ts';
import type { EventFilter } from './event-page.ts';
import { readEventPage } from './event-page.ts';
import type { EventLog, EventRecord } from './event-log.ts';
import { Sequencer } from './sequencer.ts';

eachStore(
  'an event that was appended is read with a position, once its transaction has committed',
  async (t, store, c) => {
    const { events, sequencer } = logOn(store, c.clock);
    await store.transaction(async (tx) => {
      await append(events, tx, 'a1');
      await append(events, tx, 'a2');
    });
    if (store.dialect === 'postgres') t.same(await events.read(0, 10), [], 'not before it has a position');
    await sequencer.sequence();
    const [first, second] = await events.read(0, 10);
    t.match(first, { position: 1, type: 'alert.raised', key: 'a1', actor: 'test', at: c.clock.now() });
    t.same(first?.data, { subject: 'a1', code: 'c', message: 'm' });
    t.equal(first?.tenantId, undefined);
    t.match(second, { position: 2, key: 'a2' });
    t.equal(await events.position(), 2);
    t.same(
      (await events.read(1, 10)).map(({ key }) => key),
      ['a2'],
    );
    t.same(
      (await events.read(0, 1)).map(({ key }) => key),
      ['a1'],
    );
  },
);

eachStore('an event of a transaction that fails is never seen, and leaves no gap', async (t, store, { clock }) => {
  const { events, sequencer } = logOn(store, clock);
  const failing = store.transaction(async (tx) => {
    await append(events, tx, 'lost');
    throw new Error('no');
  });
  await t.rejects(failing, { message: 'no' });
  await store.transaction((tx) => append(events, tx, 'kept'));
  await sequencer.sequence();
  t.match(await events.read(0, 10), [{ key: 'kept', position: 1 }]);
});

eachStore('a reader misses neither of two transactions that commit in the other order', async (t, store, { clock }) => {
  if (store.dialect === 'sqlite') {
    t.pass('one writer at a time: the order is that of the commits');
    return;
  }
  const { events, sequencer } = logOn(store, clock);
  const gate = Promise.withResolvers<undefined>();
  const appended = Promise.withResolvers<undefined>();
  const late = store.transaction(async (tx) => {
    await append(events, tx, 'first appended');
    appended.resolve(undefined);
    await gate.promise;
  });
  await appended.promise;
  await store.transaction((tx) => append(events, tx, 'first committed'));
  await sequencer.sequence();
  t.match(await events.read(0, 10), [{ key: 'first committed', position: 1 }]);
  gate.resolve(undefined);
  await late;
  await sequencer.sequence();
  t.match(await events.read(1, 10), [{ key: 'first appended', position: 2 }], 'seen from the cursor behind the other');
});

eachStore('sequencers side by side give each position once and leave no gap', async (t, store, { clock }) => {
  const logs = [logOn(store, clock), logOn(store, clock), logOn(store, clock)];
  await Promise.all(
    Array.from({ length: 60 }, async (_, index) => {
      const { events, sequencer } = logs[index % 3]!;
      await store.transaction((tx) => append(events, tx, `event ${index}`));
      await sequencer.sequence();
    }),
  );
  const positions = (await logs[0]!.events.read(0, 100)).map(({ position }) => position);
  t.same(
    positions,
    Array.from({ length: 60 }, (_, index) => index + 1),
  );
});

eachStore('a running sequencer works right after the commit, without the clock', async (t, store, { clock }) => {
  const { events, sequencer } = logOn(store, clock);
  const end = new AbortController();
  const running = sequencer.run(end.signal);
  const nudged = new Promise((resolve) => events.nudge(() => resolve(true)));
  await store.transaction((tx) => append(events, tx, 'now'));
  await nudged;
  t.match(await events.read(0, 10), [{ key: 'now' }]);
  end.abort();
  await running;
});

eachStore('the events of a process that was killed get their positions from another', async (t, store, { clock }) => {
  const dead = logOn(store, clock);
  await store.transaction((tx) => append(dead.events, tx, 'orphan'));
  const { events, sequencer } = logOn(store, clock);
  const end = new AbortController();
  const nudged = new Promise((resolve) => events.nudge(() => resolve(true)));
  const running = sequencer.run(end.signal);
  await nudged;
  t.match(await events.read(0, 10), [{ key: 'orphan' }]);
  end.abort();
  await running;
});

eachStore('what another process positioned is told to the listeners here', async (t, store, { clock }) => {
  const here = logOn(store, clock);
  const there = logOn(store, clock);
  let nudges = 0;
  const silence = here.events.nudge(() => (nudges += 1));
  await store.transaction((tx) => append(there.events, tx, 'a'));
  await there.sequencer.sequence();
  await here.sequencer.sequence();
  t.equal(nudges, 1);
  await here.sequencer.sequence();
  t.equal(nudges, 1, 'once');
  silence();
  await store.transaction((tx) => append(there.events, tx, 'b'));
  await here.sequencer.sequence();
  t.equal(nudges, 1, 'not after it was silenced');
});

eachStore(
  'the log is replayed page by page, of one type, about one thing, or of one tenant',
  async (t, store, { clock }) => {
    const { events, sequencer } = logOn(store, clock);
    await store.transaction(async (tx) => {
      for (let number = 1; number <= 9; number += 1) {
        const data = { machineId: 'm', from: null, to: String(number) };
        const about = { key: number % 2 === 0 ? 'even' : 'odd', tenantId: number % 3 === 0 ? 't3' : undefined };
        if (number === 5) await append(events, tx, 'five');
        else await events.append(tx, 'machine.state-changed', { ...about, actor: 'test', data });
      }
    });
    await sequencer.sequence();
    const page = async (at: { after: number; limit: number }, filter?: EventFilter) => {
      const { events: found, ...where } = await readEventPage(store.read, at, filter);
      return { found: found.map(({ position }) => position), ...where };
    };
    const [first, second] = [await page({ after: 0, limit: 7 }), await page({ after: 7, limit: 7 })];
    t.same(first, { found: [1, 2, 3, 4, 5, 6, 7], position: 7, last: 9 });
    t.same(second, { found: [8, 9], position: 9, last: 9 });
    t.same(await page({ after: 0, limit: 1 }, { key: 'even' }), { found: [2], position: 2, last: 9 });
    t.same(await page({ after: 6, limit: 9 }, { key: 'even' }), { found: [8], position: 9, last: 9 });
    t.same(await page({ after: 0, limit: 9 }, { tenantId: 't3' }), { found: [3, 6, 9], position: 9, last: 9 });
    t.same(await page({ after: 0, limit: 9 }, { types: ['alert.raised'] }), { found: [5], position: 9, last: 9 });
    t.same(await page({ after: 5, limit: 9 }, { types: ['alert.raised'] }), { found: [], position: 9, last: 9 });
    t.same(await page({ after: 12, limit: 9 }), { found: [], position: 12, last: 9 }, 'beyond the end');
  },
);

eachStore('a page that nothing passes goes on all the same, for a part of the log', async (t, store) => {
  const many = 45_000;
  await store.transaction(async (tx) => {
    for (let first = 1; first <= many; first += 1_000) {
      const rows = Array.from({ length: 1_000 }, (_, index) => ({
        ...{
          id: `event_${String(first + index).padStart(6, '0')}`,
          position: first + index,
          version: 1,
          key: 'k',
          at: 0,
        },
        ...{
          type: first + index === many ? 'saga.stuck' : 'alert.raised',
          tenant_id: null,
          actor: 'test',
          origin: null,
        },
        data: '{}',
      }));
      await tx.insertInto('events').values(rows).execute();
    }
    await tx.updateTable('event_positions').set({ last: many }).execute();
  });
  let pages = 0;
  for (let after = 0; after < many; pages += 1) {
    const { events, position, last } = await readEventPage(store.read, { after, limit: 10 }, { types: ['saga.stuck'] });
    t.equal(events.length, position === last ? 1 : 0);
    after = position;
  }
  t.equal(pages, 3);
});

eachStore('a thing has happened when its event came after the position', async (t, store, { clock }) => {
  const { events, sequencer } = logOn(store, clock);
  await store.transaction((tx) => append(events, tx, 'a'));
  await sequencer.sequence();
  const a = { type: 'alert.raised', key: 'a', since: 0 } as const;
  const asked = [a, { ...a, since: 1 }, { ...a, key: 'b' }, { ...a, type: 'saga.stuck' as const }];
  t.same(await store.transaction((tx) => events.happened(tx, asked)), [a]);
});

eachStore('a consumer goes on where it was, and gets again what it failed to deliver', async (t, store, { clock }) => {
  const { events, sequencer } = logOn(store, clock);
  for (const key of ['a', 'b', 'c']) await store.transaction((tx) => append(events, tx, key));
  await sequencer.sequence();
  const seen: string[] = [];
  let failures = 0;
  const consumeUntil = async (last: string) => {
    const end = new AbortController();
    const deliver = ([event]: readonly EventRecord[]) => {
      if (event!.key === 'b' && failures++ === 0) throw new Error('mail server is down');
      seen.push(event!.key);
      if (event!.key === last) end.abort();
      return Promise.resolve();
    };
    const consumer = new Consumer({ store, events, clock, log: silentLog }, { name: 'mail', batch: 1, deliver });
    const running = consumer.run(end.signal);
    while (!end.signal.aborted) await clock.advance(1_000);
    await running;
  };

  await consumeUntil('b');
  t.same(seen, ['a', 'b'], 'b came again, after the period');
  await consumeUntil('c');
  t.same(seen, ['a', 'b', 'c'], 'a and b did not come again');
  t.match(await store.read.selectFrom('cursors').selectAll().execute(), [{ consumer: 'mail' }]);
});

function logOn(store: Store, clock: ManualClock): { events: EventLog; sequencer: Sequencer } {
  const sequencer = new Sequencer({ store, clock, log: silentLog });
  return { events: createEventLog({ store, clock, ids: createIds(clock), sequencer }), sequencer };
}

function append(events: EventLog, tx: Tx, key: string): Promise<void> {
  return events.append(tx, 'alert.raised', { key, actor: 'test', data: { subject: key, code: 'c', message: 'm' } });
}
