import { sqliteStore } from '../store/test-stores.ts';
import { apiBench } from './api.fixture.ts';

sqliteStore('operators see every pool, what it should be and why; nobody else does', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  t.same((await bench.operator.get('/pools')).body, { pools: [] }, 'none are kept');
  bench.pools.push({
    ...{ regionId: 'reg_gone', flavorId: 'flv_gone', capacity: 20, available: 16, warming: 2, ready: 1 },
    ...{ target: 4, keep: 5, floor: 4, ceiling: 5, at: clock.now() },
    warmUp: { milliseconds: 570_000, samples: 41, basis: 'measured' },
    reasons: [
      { kind: 'floor', machines: 4, share: 0.2 },
      {
        ...{ kind: 'lead-time-demand', machines: 3, mean: 1.25, serviceLevel: 0.99, method: 'level' },
        interval: { low: 0, high: 3 },
      },
    ],
    moves: [{ kind: 'below-target', missing: 1 }],
  });
  t.same((await bench.operator.get('/pools')).body, {
    pools: [
      {
        ...{ region: 'reg_gone', flavor: 'flv_gone', capacity: 20, available: 16, warming: 2, ready: 1 },
        ...{ target: 4, keep: 5, floor: 4, ceiling: 5, warmUpSeconds: 570, at: new Date(clock.now()).toISOString() },
        why: [
          '4 machines are the floor, 20 % of the capacity.',
          'While a machine warms, 1.3 orders are expected, 0 to 3 in nine of ten cases (method level): with 3 machines, 99 % of the orders find one ready.',
          'A machine is taken to warm in 9.5 min: nine in ten of 41 took no longer.',
          '1 are missing: as many as may are being warmed.',
        ],
      },
    ],
  });
  const metrics = (await bench.app.inject({ url: '/metrics', headers: bench.operator.headers })).body;
  const pool = 'region="reg_gone",flavor="flv_gone"';
  for (const line of [
    `rackstart_pool_machines{${pool},state="ready"} 1`,
    `rackstart_pool_machines{${pool},state="warming"} 2`,
    `rackstart_pool_machines{${pool},state="available"} 16`,
    `rackstart_pool_capacity{${pool}} 20`,
    `rackstart_pool_target{${pool}} 4`,
    `rackstart_pool_floor{${pool}} 4`,
    `rackstart_pool_ceiling{${pool}} 5`,
    `rackstart_pool_warm_up_seconds{${pool}} 570`,
  ])
    t.ok(metrics.includes(`${line}\n`), line);
  bench.pools.pop();
  const later = (await bench.app.inject({ url: '/metrics', headers: bench.operator.headers })).body;
  t.notMatch(later, 'rackstart_pool_target{', 'a pool that is gone is told no more');
});
