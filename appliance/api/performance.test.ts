import { HOUR, SECOND } from '../kernel/clock.ts';
import { timedBoots } from '../machines/stage-times.fixture.ts';
import { timedDeploys } from '../requests/deploy-times.fixture.ts';
import { TIMES_KEPT } from '../requests/deploy-times.ts';
import { eachStore, sqliteStore } from '../store/test-stores.ts';
import { apiBench, complaints, described } from './api.fixture.ts';

interface Performance {
  since: string;
  all: { deploys: number; withinTarget: number | null; spans: object[] };
  kinds: { model: string }[];
  stages: object[];
}

eachStore('operators see p50, p99 and the share that meets the target, by kind and filter', async (t, store, c) => {
  const targets = { deploySeconds: 60, deployMedianSeconds: 47 };
  const bench = await apiBench(t, store, c.clock, { targets });
  const endedAt = c.clock.now();
  await timedDeploys(store, [
    { endedAt, model: 'R640', firmware: 'uefi', spans: { total: 41.25, image: 20, 'boot-command': 1.5 } },
    { endedAt, model: 'R640', firmware: 'uefi', spans: { total: 47, image: 20 } },
    { endedAt, model: 'R640', firmware: 'uefi', spans: { total: 61, image: 30 } },
    { endedAt: endedAt - 2 * HOUR, model: 'DL360', region_id: 'reg_south', spans: { total: 48 } },
    { endedAt: endedAt - TIMES_KEPT, model: 'old', spans: { total: 1 } },
  ]);
  t.same((await bench.operator.get('/performance')).body, {
    since: new Date(endedAt - TIMES_KEPT).toISOString(),
    target: { seconds: 60, medianSeconds: 47 },
    all: {
      deploys: 4,
      withinTarget: 0.75,
      medianMet: true,
      spans: [
        { span: 'image', deploys: 3, p50Seconds: 20, p99Seconds: 30 },
        { span: 'boot-command', deploys: 1, p50Seconds: 1.5, p99Seconds: 1.5 },
        { span: 'total', deploys: 4, p50Seconds: 47, p99Seconds: 61 },
      ],
    },
    kinds: [
      {
        model: 'R640',
        firmware: 'uefi',
        path: 'cold',
        deploys: 3,
        withinTarget: 2 / 3,
        medianMet: true,
        spans: [
          { span: 'image', deploys: 3, p50Seconds: 20, p99Seconds: 30 },
          { span: 'boot-command', deploys: 1, p50Seconds: 1.5, p99Seconds: 1.5 },
          { span: 'total', deploys: 3, p50Seconds: 47, p99Seconds: 61 },
        ],
      },
      {
        model: 'DL360',
        firmware: 'bios',
        path: 'cold',
        deploys: 1,
        withinTarget: 1,
        medianMet: false,
        spans: [{ span: 'total', deploys: 1, p50Seconds: 48, p99Seconds: 48 }],
      },
    ],
    stages: [],
  });
  const models = async (query: string) => {
    const { kinds } = (await bench.operator.get(`/performance?${query}`)).body as Performance;
    return kinds.map(({ model }) => model);
  };
  t.same(await models('region=south'), ['DL360']);
  t.same(await models('firmware=uefi'), ['R640']);
  t.same(await models('model=DL360&path=cold'), ['DL360']);
  t.same(await models('path=warm'), []);
  t.same(await models(`since=${new Date(endedAt - HOUR).toISOString()}`), ['R640']);
  t.same(await models('since=2000-01-01T00:00:00Z'), ['R640', 'DL360'], 'never more than 30 days');
});

eachStore(
  'what stages may take is told by hardware, and how soon the dead were missed',
  async (t, store, { clock }) => {
    const bench = await apiBench(t, store, clock);
    const { rack } = await described(bench, store);
    const bmc = { address: '10.0.0.1', username: 'admin', password: 'hunter2hunter2' };
    const nics = [{ mac: '52:54:00:00:00:01', role: 'both' }];
    const { body } = await bench.operator.post('/machines', { name: 'm1', rack, bmc, nics });
    const { id: machineId } = body as { id: string };
    await store.transaction((tx) => tx.updateTable('machines').set({ model: 'D1', firmware: 'uefi' }).execute());
    const endedAt = clock.now() - HOUR;
    const boot = (seconds: number) => ({ machineId, endedAt, stages: { grow: seconds * SECOND, dhcp: 30 * SECOND } });
    const dead = (seconds: number) => {
      const at = endedAt - seconds;
      return { machineId, endedAt: at, outcome: 'late' as const, stages: { grow: seconds * SECOND } };
    };
    const others = { ...dead(9), endedAt: endedAt - HOUR, model: 'nobody has it' };
    const tooOld = { ...dead(300), endedAt: clock.now() - TIMES_KEPT };
    await timedBoots(store, [...Array.from({ length: 10 }, () => boot(2)), ...[12, 40, 61].map(dead), others, tooOld]);
    const stages = async (query: string) =>
      ((await bench.operator.get(`/performance${query}`)).body as Performance).stages;
    const hardware = { model: 'D1', firmware: 'uefi', boots: 10, allowedSeconds: 60 };
    const told = [
      {
        ...{ ...hardware, stage: 'dhcp', p99Seconds: 30, basis: 'ceiling' },
        ...{ late: 0, noticedP50Seconds: null, noticedP99Seconds: null },
      },
      {
        ...{ ...hardware, stage: 'grow', p99Seconds: 2, basis: 'floor' },
        ...{ late: 3, noticedP50Seconds: 40, noticedP99Seconds: 61 },
      },
    ];
    t.same(await stages(''), told);
    t.same(await stages('?region=west&model=D1&firmware=uefi&path=cold'), told);
    await bench.operator.post('/regions', { name: 'east' });
    t.same(await stages('?region=east'), []);
    t.same(await stages('?firmware=bios'), []);
    t.match(await stages(`?since=${new Date(endedAt - 20).toISOString()}`), [{}, { late: 1, noticedP99Seconds: 12 }]);
    const metrics = (await bench.app.inject({ url: '/metrics', headers: bench.operator.headers })).body;
    for (const line of [
      'rackstart_boots_late{stage="grow"} 4',
      'rackstart_boot_noticed_seconds{stage="grow",quantile="0.5"} 12',
      'rackstart_boot_noticed_seconds{stage="grow",quantile="0.99"} 61',
    ])
      t.ok(metrics.includes(`${line}\n`), line);
  },
);

sqliteStore('without a deploy there is no share and no percentile', async (t, store, { clock }) => {
  const { operator } = await apiBench(t, store, clock);
  const { all } = (await operator.get('/performance')).body as Performance;
  t.same(all, { deploys: 0, withinTarget: null, medianMet: null, spans: [] });
});

sqliteStore('what is no filter is refused', async (t, store, { clock }) => {
  const { operator } = await apiBench(t, store, clock);
  for (const [query, field] of [
    ['firmware=arm', '/querystring/firmware'],
    ['path=hot', '/querystring/path'],
    ['since=yesterday', '/querystring/since'],
    ['region=nowhere', '/querystring/region'],
    [`model=${'x'.repeat(300)}`, '/querystring/model'],
    ['tenant=x', '/querystring/tenant'],
  ] as const) {
    const answer = await operator.get(`/performance?${query}`);
    t.equal(answer.status, 400, query);
    t.same(complaints(answer), [field]);
  }
});
