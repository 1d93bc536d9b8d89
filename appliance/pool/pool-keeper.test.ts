import type { Test } from 'tap';

import { chooseMethod } from '../../scheduler/forecast/forecast.ts';
import { defaultPoolPolicy } from '../../scheduler/pool-target.ts';
import type { PoolPolicy } from '../../scheduler/pool-target.ts';
import { HOUR, MINUTE } from '../kernel/clock.ts';
import { silentLog } from '../kernel/log.ts';
import type { MachineRow } from '../store/schema.ts';
import { eachStore } from '../store/test-stores.ts';
import type { StoreTestContext } from '../store/test-stores.ts';
import type { Store, Tx } from '../store/store.ts';
import { Demand } from './demand.ts';
import { PoolForecasts } from './pool-forecasts.ts';
import { PoolKeeper } from './pool-keeper.ts';
import { describeRegion, flavorOf, order, rackUp } from './pool.fixture.ts';

eachStore('a pool without orders holds its floor, spread over the racks', async (t, store, { clock }) => {
  await describeRegion(store);
  const site = await siteOf(t, store, clock, { machines: 20 });
  await site.look();
  t.same(await site.inState('warming'), ['m_00', 'm_01', 'm_10'], '15 % of 20 machines');
  t.match(site.keeper.pools, [
    {
      regionId: 'reg_1',
      flavorId: 'flv_small',
      capacity: 20,
      target: 3,
      reasons: [{ kind: 'floor', share: 0.15 }, {}],
    },
  ]);
  await site.look();
  t.same((await site.inState('warming')).length, 3, 'those on their way count');
});

eachStore('what is ordered every hour is warm before it is ordered', async (t, store, { clock }) => {
  await describeRegion(store);
  const hours = Array.from({ length: 72 }, (_, hour) => clock.now() - (72 - hour) * HOUR);
  await order(
    store,
    hours.flatMap((hour) => Array.from({ length: 40 }, (_, index) => hour + index * MINUTE)),
  );
  const site = await siteOf(t, store, clock, { machines: 60, policy: { floor: undefined, ceiling: undefined } });
  await site.look();
  const [pool] = site.keeper.pools;
  t.match(pool?.reasons, [{ kind: 'lead-time-demand', serviceLevel: 0.99 }]);
  t.ok(pool !== undefined && pool.target >= 8, '40 an hour are 8 in the 12 minutes that a machine warms');
});

eachStore('how far ahead a pool looks follows from what its machines took to get warm', async (t, store, { clock }) => {
  await describeRegion(store);
  const hours = Array.from({ length: 72 }, (_, hour) => clock.now() - (72 - hour) * HOUR);
  await order(
    store,
    hours.flatMap((hour) => Array.from({ length: 40 }, (_, index) => hour + index * MINUTE)),
  );
  const site = await siteOf(t, store, clock, { machines: 60, policy: { floor: undefined, ceiling: undefined } });
  await site.set(['m_58'], { model: 'R2' });
  const pool = async () => {
    await site.look();
    return site.keeper.pools[0]!;
  };
  const cold = await pool();
  t.same(cold.warmUp, { milliseconds: 12 * MINUTE, samples: 0, basis: 'configured' });
  t.match(cold, { floor: 0, ceiling: 60 });

  await warmed(
    store,
    clock.now(),
    [3, 3, 4, 4, 4, 3, 3, 4, 4, 30].map((minutes, index) => [`m_0${String(index)}`, minutes]),
  );
  t.same((await pool()).warmUp.samples, 0, 'it is read every ten minutes');
  await clock.advance(10 * MINUTE);
  const measured = await pool();
  t.same(
    measured.warmUp,
    { milliseconds: 4 * MINUTE, samples: 10, basis: 'measured' },
    'the slow end, and no straggler',
  );
  t.ok(measured.target < cold.target, 'a machine that is up sooner is waited for by fewer');

  await site.set(['m_58'], { model: 'R3' });
  await warmed(
    store,
    clock.now(),
    Array.from({ length: 50 }, () => ['m_58', 50] as const),
    'later',
  );
  await site.set(['m_58'], { cores: 1 });
  await warmed(
    store,
    clock.now() - 31 * 24 * HOUR,
    Array.from({ length: 50 }, () => ['m_00', 50] as const),
    'old',
  );
  await clock.advance(HOUR);
  t.same((await pool()).warmUp.samples, 10, 'not by other hardware, nor by what was a month ago');
});

eachStore('of too many the surplus is drained, and nobody else is touched', async (t, store, { clock }) => {
  await describeRegion(store);
  const site = await siteOf(t, store, clock, { machines: 20 });
  await site.set(['m_00', 'm_01', 'm_02', 'm_03', 'm_04', 'm_05'], { state: 'ready' });
  await site.set(['m_06', 'm_07'], { state: 'deployed' });
  await site.set(['m_08'], { disk_state: 'dirty' });
  await site.look();
  t.equal((await site.inState('ready')).length, 3);
  t.same(await site.inState('deployed'), ['m_06', 'm_07']);
  t.match(site.keeper.pools, [{ target: 3, moves: [{ kind: 'above-target', surplus: 3 }] }]);
});

eachStore('a machine that does not get warm cools off, and another takes its place', async (t, store, { clock }) => {
  await describeRegion(store);
  const site = await siteOf(t, store, clock, { machines: 5 });
  await site.look();
  t.same(await site.inState('warming'), ['m_00']);
  await site.set(['m_00'], { state: 'available' });
  await site.look();
  t.same(await site.inState('warming'), ['m_01']);
  await site.set(['m_01'], { state: 'deployed' });
  await clock.advance(16 * MINUTE);
  await site.look();
  t.same(await site.inState('warming'), ['m_00'], 'it has another try');
});

eachStore(
  'a machine is of the pool of the flavor that suits it best, and of none that it cannot serve',
  async (t, store, { clock }) => {
    await describeRegion(store, [flavorOf('flv_small'), flavorOf('flv_large', { cores: 8, memory_mib: 16_384 })]);
    const site = await siteOf(t, store, clock, { machines: 3 });
    await site.set(['m_00'], { cores: 4, memory_mib: 8192 });
    await site.set(['m_01'], { cores: 2 });
    await site.look();
    t.match(
      new Map(site.keeper.pools.map(({ flavorId, capacity }) => [flavorId, capacity])),
      new Map([
        ['flv_small', 1],
        ['flv_large', 1],
      ]),
    );
  },
);

/** Warm-ups that have come to their end: of which machine, and how many minutes each took. */
async function warmed(
  store: Store,
  endedAt: number,
  each: readonly (readonly [string, number])[],
  name = 'first',
): Promise<void> {
  const rows = each.map(([subject, minutes], index) => ({
    ...{ id: `saga_${name}_${String(index)}`, name: 'warm', version: 1, tenant_id: null, subject, params: '{}' },
    ...{ reason: null, owner: null, epoch: 1, lease_expires_at: 0, wake_at: null, state: 'completed' as const },
    ...{ created_at: endedAt - minutes * MINUTE, ended_at: endedAt },
  }));
  const failed = { ...rows[0]!, id: `saga_${name}_failed`, state: 'undone' as const };
  await store.transaction((tx) =>
    tx
      .insertInto('sagas')
      .values([...rows, failed])
      .execute(),
  );
}

async function siteOf(
  t: Test,
  store: Store,
  clock: StoreTestContext['clock'],
  { machines, policy }: { machines: number; policy?: Partial<PoolPolicy> },
) {
  for (let index = 0; index < machines; index += 1) {
    const id = `m_${String(index).padStart(2, '0')}`;
    await rackUp(store, id, { rack_id: index < machines / 2 ? 'rck_a' : 'rck_b' });
  }
  const set = (ids: readonly string[], change: Partial<MachineRow>) =>
    store.transaction((tx) => tx.updateTable('machines').set(change).where('id', 'in', ids).execute());
  const demand = new Demand(store.read);
  const forecasts = new PoolForecasts(demand, async ({ series, leadMs }) => chooseMethod(series, leadMs));
  const move = async (tx: Tx, id: string, state: MachineRow['state']) => {
    await tx.updateTable('machines').set({ state }).where('id', '=', id).execute();
  };
  const doors = {
    warmMachine: (tx: Tx, id: string) => move(tx, id, 'warming'),
    drainMachine: (tx: Tx, id: string) => move(tx, id, 'available'),
  };
  const keeper = new PoolKeeper(
    { store, forecasts, doors, clock, log: silentLog },
    { policy: { ...defaultPoolPolicy, ...policy } },
  );
  const never = new AbortController().signal;
  return {
    keeper,
    set,
    look: () => keeper.look(never),
    inState: async (state: MachineRow['state']) => {
      const rows = await store.read
        .selectFrom('machines')
        .select('id')
        .where('state', '=', state)
        .orderBy('id')
        .execute();
      return rows.map(({ id }) => id);
    },
  };
}
