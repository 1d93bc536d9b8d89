import { setImmediate as nextTurn } from 'node:timers/promises';

import type { Test } from 'tap';

import type { ServerSpec } from '../providers/provider.ts';
import { PlacementDesk } from '../providers/bare-metal/placement-desk.ts';
import type { ManualClock } from '../kernel/manual-clock.ts';
import type { Reader, Store } from '../store/store.ts';
import { sqliteStore } from '../store/test-stores.ts';
import { Pipeline } from './pipeline.fixture.ts';

sqliteStore(
  'orders that come together are placed on one list, each on a machine of its own',
  async (t, store, { clock }) => {
    const { pipeline, lists, choose } = await room(t, store, clock, { machines: 3 });
    const first = await choose();
    const others = await Promise.all([choose(), choose()]);
    t.same([first, ...others], pipeline.machineIds, 'of equal ones the smallest id first');
    t.equal(lists(), 1);
  },
);

sqliteStore('nothing is refused on the word of an old list', async (t, store, { clock }) => {
  const { pipeline, lists, choose } = await room(t, store, clock, { machines: 1 });
  await store.transaction((tx) => tx.updateTable('machines').set({ state: 'quarantined' }).execute());
  await t.rejects(choose(), { code: 'placement.none' });
  await store.transaction((tx) => tx.updateTable('machines').set({ state: 'available' }).execute());
  t.equal(await choose(), pipeline.machineIds[0]);
  t.equal(lists(), 2);
});

sqliteStore('after a claim that was refused the list is read again', async (t, store, { clock }) => {
  const { pipeline, lists, choose } = await room(t, store, clock, { machines: 2 });
  t.equal(await choose(() => undefined), undefined);
  t.equal(await choose(), pipeline.machineIds[0], 'nobody had it: it is chosen again');
  t.equal(lists(), 2);
});

sqliteStore('those that find nothing together read the next list together', async (t, store, { clock }) => {
  const { lists, choose } = await room(t, store, clock, { machines: 2 });
  await choose();
  await choose();
  const chosen = await Promise.all([choose(), choose()]);
  t.equal(new Set(chosen).size, 2, 'nobody claimed them: each gets one of its own again');
  t.equal(lists(), 2);
});

sqliteStore('a machine whose claim is under way is on no list that is read meanwhile', async (t, store, { clock }) => {
  const { pipeline, lists, choose } = await room(t, store, clock, { machines: 3 });
  const [first, second, third] = pipeline.machineIds;
  const claim = Promise.withResolvers<string>();
  const slow = choose(() => claim.promise);
  t.equal(await choose(), second);
  await clock.advance(5_000);
  t.equal(await choose(), second, 'it was not claimed, and is free on the next list');
  t.equal(lists(), 2);
  claim.resolve('claimed');
  t.equal(await slow, 'claimed');
  await clock.advance(5_000);
  t.same(
    await Promise.all([choose(), choose(), choose()]),
    [first, second, third],
    'when it is over, what is read counts',
  );
});

sqliteStore('a machine that is chosen while the next list is read is not on it', async (t, store, { clock }) => {
  const { pipeline, listed, choose } = await room(t, store, clock, { machines: 3 });
  const [first, second, third] = pipeline.machineIds;
  t.equal(await choose(), first);
  await clock.advance(1_000);
  // Its claim is over before the list is there, which may show it as it was before.
  t.equal(await choose(), second, 'the list that has had its second serves until the next one is there');
  await listed(2);
  t.same(await Promise.all([choose(), choose()]), [first, third]);
});

/** Machines, a desk that chooses among them, and how often it began to read them; `claim` is given whatever it chose. */
async function room(t: Test, store: Store, clock: ManualClock, { machines }: { machines: number }) {
  const pipeline = await Pipeline.open(t, store, clock, { machines });
  const tables: string[] = [];
  const read = {
    selectFrom(table: Parameters<Reader['selectFrom']>[0]) {
      tables.push(table as string);
      return store.read.selectFrom(table);
    },
  } as unknown as Reader;
  const flavor = await store.read.selectFrom('flavors').selectAll().executeTakeFirstOrThrow();
  const spec = { flavor, regionId: 'reg1', tenantId: 't1' } as ServerSpec;
  const desk = new PlacementDesk();
  const choose = (claim = (machineId: string): string | undefined | Promise<string> => machineId) =>
    desk.choosing({ read, clock }, spec, async ({ machineId }) => claim(machineId));
  const times = (table: string) => tables.filter((name) => name === table).length;
  /** Resolves when so many lists are there. */
  const listed = async (count: number) => {
    // Who holds machines is read last, and by one who asks later heard of later.
    while (times('allocations') < count) await nextTurn();
    await store.read.selectFrom('allocations').selectAll().execute();
  };
  return { pipeline, lists: () => times('machines'), listed, choose };
}
