import type { ServerSpec } from '../providers/provider.ts';
import { PlacementDesk } from '../providers/bare-metal/placement-desk.ts';
import type { Reader, Store } from '../store/store.ts';
import { sqliteStore } from '../store/test-stores.ts';
import { Pipeline } from './pipeline.fixture.ts';

sqliteStore(
  'orders that come together are placed on one list, each on a machine of its own',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock, { machines: 3 });
    const { read, lists } = counting(store);
    const desk = new PlacementDesk();
    const spec = await specOf(store);
    const first = await desk.choose({ read, clock }, spec);
    const others = await Promise.all([1, 2].map(() => desk.choose({ read, clock }, spec)));
    t.same([first, ...others], pipeline.machineIds, 'of equal ones the smallest id first');
    t.equal(lists(), 1);
  },
);

sqliteStore('nothing is refused on the word of an old list', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock, { machines: 1 });
  const { read, lists } = counting(store);
  const desk = new PlacementDesk();
  const spec = await specOf(store);
  await store.transaction((tx) => tx.updateTable('machines').set({ state: 'quarantined' }).execute());
  await t.rejects(desk.choose({ read, clock }, spec), { code: 'placement.none' });
  await store.transaction((tx) => tx.updateTable('machines').set({ state: 'available' }).execute());
  t.equal(await desk.choose({ read, clock }, spec), pipeline.machineIds[0]);
  t.equal(lists(), 2);
  // Nobody claimed it: a list that was refused, or is a second old, is read again.
  desk.refused(spec.regionId);
  t.equal(await desk.choose({ read, clock }, spec), pipeline.machineIds[0]);
  t.equal(lists(), 3);
});

sqliteStore('those that find nothing together read the next list together', async (t, store, { clock }) => {
  await Pipeline.open(t, store, clock, { machines: 2 });
  const { read, lists } = counting(store);
  const desk = new PlacementDesk();
  const spec = await specOf(store);
  await desk.choose({ read, clock }, spec);
  await desk.choose({ read, clock }, spec);
  const chosen = await Promise.all([1, 2].map(() => desk.choose({ read, clock }, spec)));
  t.equal(new Set(chosen).size, 2, 'nobody claimed them: each gets one of its own again');
  t.equal(lists(), 2);
});

/** How often the machines were read. */
function counting(store: Store) {
  const tables: unknown[] = [];
  const read = {
    selectFrom(table: Parameters<Reader['selectFrom']>[0]) {
      tables.push(table);
      return store.read.selectFrom(table);
    },
  } as unknown as Reader;
  return { read, lists: () => tables.filter((table) => table === 'machines').length };
}

async function specOf({ read }: Store): Promise<ServerSpec> {
  const flavor = await read.selectFrom('flavors').selectAll().executeTakeFirstOrThrow();
  return { flavor, regionId: 'reg1', tenantId: 't1' } as ServerSpec;
}
