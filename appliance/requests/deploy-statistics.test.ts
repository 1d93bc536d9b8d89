import { HOUR, SECOND } from '../kernel/clock.ts';
import { eachStore } from '../store/test-stores.ts';
import { deployStatistics } from './deploy-statistics.ts';
import { timedDeploys } from './deploy-times.fixture.ts';

eachStore('times are told by span, by model, firmware and path, and for all together', async (t, store, { clock }) => {
  const at = clock.now();
  await timedDeploys(store, [
    ...[40, 50, 60].map((total) => {
      return { endedAt: at, model: 'R640', firmware: 'uefi' as const, spans: { total, image: 20 } };
    }),
    { endedAt: at, model: 'R640', spans: { total: 78, image: 30 } },
    { endedAt: at, model: null, firmware: null, spans: { total: 78.001 } },
  ]);
  const { all, kinds } = await deployStatistics(store.read, { since: at - HOUR }, 78 * SECOND);
  t.same(all, {
    deploys: 5,
    withinTarget: 4,
    spans: [
      { span: 'image', deploys: 4, p50: 20 * SECOND, p99: 30 * SECOND },
      { span: 'total', deploys: 5, p50: 60 * SECOND, p99: 78_001 },
    ],
  });
  t.match(kinds, [
    { model: 'R640', firmware: 'uefi', path: 'cold', deploys: 3, withinTarget: 3 },
    { model: null, firmware: null, deploys: 1, withinTarget: 0, spans: [{ span: 'total', deploys: 1 }] },
    { model: 'R640', firmware: 'bios', deploys: 1, withinTarget: 1, spans: [{ span: 'image' }, { p99: 78 * SECOND }] },
  ]);
});

eachStore('a filter leaves out what it does not name', async (t, store, { clock }) => {
  const at = clock.now();
  await timedDeploys(store, [
    { endedAt: at, spans: { total: 1 } },
    { endedAt: at, spans: { total: 2 }, model: 'B', firmware: 'uefi' },
    { endedAt: at, spans: { total: 3 }, firmware: 'uefi', path: 'warm' },
    { endedAt: at, spans: { total: 4 }, model: 'C', region_id: 'reg_south' },
    { endedAt: at - 2 * HOUR, spans: { total: 5 } },
  ]);
  const seconds = async (filter: object) => {
    const { all } = await deployStatistics(store.read, { since: at - HOUR, ...filter }, SECOND);
    return [all.deploys, (all.spans[0]?.p99 ?? NaN) / SECOND];
  };
  t.same(await seconds({}), [4, 4]);
  t.same(await seconds({ since: 0 }), [5, 5]);
  t.same(await seconds({ regionId: 'reg_north' }), [3, 3]);
  t.same(await seconds({ model: 'A' }), [2, 3]);
  t.same(await seconds({ firmware: 'uefi' }), [2, 3]);
  t.same(await seconds({ model: 'A', path: 'cold' }), [1, 1]);
  t.same(await seconds({ model: "' or 1=1 --" }), [0, NaN]);
});
