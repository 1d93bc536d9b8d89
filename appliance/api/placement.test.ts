import { describeRegion, flavorOf, order, rackUp } from '../pool/pool.fixture.ts';
import { PlacementDesk } from '../providers/bare-metal/placement-desk.ts';
import type { ServerSpec } from '../providers/provider.ts';
import type { MachineRow } from '../store/schema.ts';
import type { Store } from '../store/store.ts';
import { eachStore, sqliteStore } from '../store/test-stores.ts';
import { apiBench, codeOf, complaints } from './api.fixture.ts';

const small = flavorOf('flv_small', { name: 'small' });

const machines: readonly (readonly [string, Partial<MachineRow>])[] = [
  ['m_01', { cores: 2 }],
  ['m_02', { cores: 2, memory_mib: 1 }],
  ['m_03', { memory_mib: 4096 }],
  ['m_04', { rack_id: 'rck_b' }],
  ['m_05', { rack_id: 'rck_b', state: 'ready' }],
  ['m_06', { rack_id: 'rck_b', state: 'ready' }],
  ['m_07', { disk_state: 'dirty' }],
  ['m_08', { state: 'quarantined' }],
  ['m_09', { state: 'deployed' }],
];

eachStore('operators are told which machine an order would be given, and why not the others', async (t, store, c) => {
  const bench = await apiBench(t, store, c.clock);
  const flavors = [small, flavorOf('flv_huge', { name: 'huge', memory_mib: 1_000_000 })];
  await describeRegion(store, flavors);
  for (const [id, change] of machines) await rackUp(store, id, change);
  const ask = async (query: string) => (await bench.operator.get(`/placement?region=north&${query}`)).body;
  t.same(await ask('flavor=small'), {
    ...{ region: 'north', flavor: 'small', free: 6, notFree: { dirty: 1, quarantined: 1, deployed: 1 } },
    filters: [
      { filter: 'too-few-cores', passed: 4, leftOut: 2, examples: ['m_01', 'm_02'] },
      { filter: 'too-little-memory', passed: 3, leftOut: 1, examples: ['m_03'] },
      ...['disks-do-not-fit', 'too-small-disk', 'too-few-nics', 'tried-before'].map((filter) => {
        return { filter, passed: 3, leftOut: 0, examples: [] };
      }),
    ],
    ...{ emptiedBy: null, chosen: 'm_05' },
    best: [
      { machine: 'm_05', total: WASTE, terms: { waste: WASTE } },
      { machine: 'm_06', total: WASTE, terms: { waste: WASTE } },
      { machine: 'm_04', total: 10 + WASTE, terms: { cold: 10, waste: WASTE } },
    ],
  });
  t.match(await ask('flavor=huge'), {
    ...{ chosen: null, best: [], emptiedBy: 'too-little-memory' },
    filters: [{ passed: 4 }, { filter: 'too-little-memory', passed: 0, leftOut: 4 }],
  });

  const rows = () => store.read.selectFrom('machines').selectAll().orderBy('id').execute();
  const before = await rows();
  await ask('flavor=small');
  t.same(await rows(), before, 'nothing is done');
  const spec = { regionId: 'reg_1', tenantId: 'ten_1', flavor: small } as ServerSpec;
  const looking = { read: store.read, clock: c.clock };
  const taken = await new PlacementDesk().choosing(looking, spec, ({ machineId }) => Promise.resolve(machineId));
  t.equal(taken, 'm_05', 'an order is given that one');
});

sqliteStore("a tenant's own servers count, where it is named", async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  await describeRegion(store, [small]);
  await rackUp(store, 'm_01');
  await rackUp(store, 'm_02', { rack_id: 'rck_b' });
  await rackUp(store, 'm_03', { state: 'deployed' });
  await hold(store, 'm_03');
  const ask = async (query: string) => (await bench.operator.get(`/placement?region=north&flavor=small${query}`)).body;
  t.match(await ask(''), { chosen: 'm_01' });
  t.match(await ask('&tenant=ten_1'), {
    chosen: 'm_02',
    best: [{ machine: 'm_02' }, { machine: 'm_01', terms: { 'tenant-in-rack': 100 } }],
  });
});

sqliteStore('a dry run names things that there are, and is for operators', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  await describeRegion(store, [small]);
  const { member } = await bench.tenant('rival');
  for (const [query, field] of [
    ['region=nowhere&flavor=small', '/querystring/region'],
    ['region=north&flavor=none', '/querystring/flavor'],
    ['region=north&flavor=small&tenant=ten_none', '/querystring/tenant'],
    ['region=north', '/querystring/flavor'],
  ] as const) {
    t.same(complaints(await bench.operator.get(`/placement?${query}`)), [field], query);
  }
  t.equal(codeOf(await member.get('/placement?region=north&flavor=small')), 'auth.forbidden');
  t.match((await bench.operator.get('/placement?region=north&flavor=small')).body, {
    ...{ free: 0, notFree: {}, chosen: null, emptiedBy: null },
  });
});

/** As a server of tenant `ten_1`, deployed long ago. */
async function hold(store: Store, machineId: string): Promise<void> {
  await order(store, [0]);
  const ended = { outcome: 'succeeded', failure: null, created_at: 0, ended_at: null } as const;
  const of = { id: 'att_1', request_id: 'srv_flv_small_img_1_0_0', tenant_id: 'ten_1', number: 1, saga_id: 'saga_1' };
  await store.transaction(async (tx) => {
    await tx
      .insertInto('attempts')
      .values({ ...of, machine_id: machineId, path: 'cold', ...ended })
      .execute();
    const allocation = { machine_id: machineId, attempt_id: of.id, tenant_id: of.tenant_id, claimed_at: -1e10 };
    await tx.insertInto('allocations').values(allocation).execute();
  });
}

// Half of its cores and of its memory are left unused, and 380 GiB of 480.
const WASTE = (0.5 + 0.5 + 380 / 480) / 3;
