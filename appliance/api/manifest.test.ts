import { eachStore } from '../store/test-stores.ts';
import type { ApiBench } from './api.fixture.ts';
import { apiBench, codeOf, complaints, described } from './api.fixture.ts';
import { discoveredMachine, manifestOf } from './things.fixture.ts';

interface Row {
  readonly id: string;
  readonly serial: string;
  readonly machine: string | null;
}

const header = 'serial,name,region,rack,unit,bmc_address,bmc_user,bmc_password\n';
const load = ({ operator }: ApiBench, text: string, format = 'csv') => operator.post('/manifest', { format, text });
const rowsOf = async ({ operator }: ApiBench) => ((await operator.get('/manifest')).body as { rows: Row[] }).rows;

eachStore('a manifest may be loaded again, and changes what is different in it', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  await described(bench, store);
  const rows = ['S1,m1,west,r1,1,10.0.0.1,admin,hunter2', 'S2,m2,west,r1,2,10.0.0.2,admin,hunter2'];
  t.match(await load(bench, header + rows.join('\n')), { status: 200, body: { added: 2, changed: 0, unchanged: 0 } });
  const [first, second] = await rowsOf(bench);
  t.match(first, {
    serial: 'S1',
    name: 'm1',
    ...{ region: 'west', rack: 'r1', unit: 1, machine: null },
    bmc: { kind: 'ipmi', address: '10.0.0.1', port: 623, username: 'admin' },
  });
  t.match((await load(bench, header + rows.join('\n'))).body, { added: 0, changed: 0, unchanged: 2 });
  t.same(await rowsOf(bench), [first, second]);

  // A new password is a change; and two rows may exchange their BMCs.
  const exchanged = ['S1,m1,west,r1,1,10.0.0.2,admin,hunter2', 'S2,m2,west,r1,2,10.0.0.1,admin,hunter3'];
  t.match((await load(bench, header + exchanged.join('\n'))).body, { added: 0, changed: 2, unchanged: 0 });
  t.match(await rowsOf(bench), [
    { id: first?.id, bmc: { address: '10.0.0.2' } },
    { id: second?.id, bmc: { address: '10.0.0.1' } },
  ]);
  t.match((await load(bench, header + exchanged.join('\n'))).body, { changed: 0 });
  t.match((await load(bench, `${header}S3,m3,west,r1,3,10.0.0.3,admin,hunter2`)).body, { added: 1 });
  t.equal((await rowsOf(bench)).length, 3, 'what a manifest does not name stays');

  t.equal((await bench.operator.delete(`/manifest/${first?.id ?? ''}`)).status, 204);
  t.equal(codeOf(await bench.operator.delete(`/manifest/${first?.id ?? ''}`)), 'not-found');
  t.same(
    (await rowsOf(bench)).map(({ serial }) => serial),
    ['S2', 'S3'],
  );
});

eachStore(
  'what is wrong with a manifest is told row by row, and nothing of it is loaded',
  async (t, store, { clock }) => {
    const bench = await apiBench(t, store, clock);
    const { rack } = await described(bench, store);
    const bmc = { address: '10.0.0.1', username: 'admin', password: 'hunter2' };
    await bench.operator.post('/machines', {
      name: 'm1',
      rack,
      bmc,
      nics: [{ mac: '52:54:00:00:00:01', role: 'both' }],
    });
    await load(bench, `${header}S0,m0,west,r1,9,10.0.0.9,admin,hunter2`);
    const rows = [
      'S1,m1,west,r1,1,10.0.0.2,admin,hunter2',
      'S2,m2,west,r9,1,10.0.0.1,admin,hunter2',
      'S3,m0,east,r1,1,10.0.0.9,admin,hunter2',
      'S4,m4,west,r1,1,10.0.0.4,admin,hunter2',
    ];
    const answer = await load(bench, header + rows.join('\n'));
    t.equal(codeOf(answer), 'request.invalid');
    t.same(complaints(answer), [
      '/rows/0/name',
      '/rows/1/bmc_address',
      '/rows/1/rack',
      '/rows/2/bmc_address',
      '/rows/2/name',
      '/rows/2/region',
    ]);
    t.same(complaints(await load(bench, 'serial\nS5', 'csv')).length, 6, 'each that is missing');
    t.equal((await rowsOf(bench)).length, 1);
    t.equal((await bench.operator.post('/manifest', { format: 'csv', text: 'x'.repeat(1024 * 1024) })).status, 413);
  },
);

eachStore('what was racked is held against what was expected', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { rack } = await described(bench, store);
  const check = async () => (await bench.operator.get('/manifest/check')).body;
  t.same(await check(), { missing: [], unexpected: [], differing: [] });
  const login = { username: 'admin', password: 'hunter2' };
  const nics = (last: string) => [{ mac: `52:54:00:00:00:0${last}`, role: 'both' }];
  const enrolled = async (name: string, last: string, serial: string) => {
    const bmc = { address: `10.0.0.${last}`, ...login };
    const { id } = (await bench.operator.post('/machines', { name, rack, bmc, nics: nics(last) })).body as {
      id: string;
    };
    await store.transaction((tx) => tx.updateTable('machines').set({ serial }).where('id', '=', id).execute());
    return id;
  };
  const [first, second] = [await enrolled('m1', '1', 'S1'), await enrolled('m2', '2', 'S2')];
  await discoveredMachine(store, 3);
  const rows = [
    'S1,m1,west,r1,1,10.0.0.9,admin,hunter2',
    'D3,m3,west,r1,3,10.0.7.3,admin,hunter2',
    'S4,m4,west,r1,4,10.0.0.4,a,b',
  ];
  await load(bench, header + rows.join('\n'));
  t.match(await check(), {
    missing: [
      { serial: 'D3', name: 'm3', rack: 'r1', unit: 3, waits: 'It is being looked at.' },
      { serial: 'S4', waits: null },
    ],
    unexpected: [{ machine: second, discovered: null, serial: 'S2' }],
    differing: [{ machine: first, what: 'BMC address', expected: '10.0.0.9:623', seen: '10.0.0.1:623' }],
  });
  await discoveredMachine(store, 5);
  const { unexpected } = (await check()) as { unexpected: object[] };
  t.match(unexpected, [{ machine: second }, { machine: null, serial: 'D5', mac: String }]);
});

eachStore('the passwords of a manifest are sealed, and told to nobody', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  await described(bench, store);
  await load(bench, manifestOf('S1', 'm1', '10.0.0.1'));
  const row = await store.read.selectFrom('expected_machines').selectAll().executeTakeFirstOrThrow();
  t.match(row.bmc_password, new RegExp(`^sealed for ${row.id}`), 'for its row alone');
  await bench.sequence();
  const events = (await bench.operator.get('/events?limit=1000')).text;
  t.match(events, 'manifest.loaded');
  const said = bench.logged() + events + (await bench.operator.get('/manifest')).text;
  for (const secret of ['hunter2', 'sealed for']) t.notMatch(said, secret);
});

eachStore('a row whose machine is enrolled already is that one', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { rack } = await described(bench, store);
  const bmc = { address: '10.0.0.1', username: 'admin', password: 'hunter2' };
  const enrol = async (name: string, last: number) => {
    const nics = [{ mac: `52:54:00:00:00:0${String(last)}`, role: 'both' }];
    const body = { name, rack, bmc: { ...bmc, address: `10.0.0.${String(last)}` }, nics };
    return ((await bench.operator.post('/machines', body)).body as { id: string }).id;
  };
  const [first, second] = [await enrol('m1', 1), await enrol('m2', 2)];
  const serial = (id: string, text: string) =>
    store.transaction((tx) => tx.updateTable('machines').set({ serial: text }).where('id', '=', id).execute());
  await serial(first, 'S1');
  t.match((await load(bench, manifestOf('S1', 'm1', '10.0.0.1'))).body, { added: 1 });
  t.equal((await rowsOf(bench))[0]?.machine, first);
  // Vendors have shipped boards that all had one serial number.
  await serial(first, 'To be filled by O.E.M.');
  await serial(second, 'To be filled by O.E.M.');
  t.same(complaints(await load(bench, manifestOf('To be filled by O.E.M.', 'm9', '10.0.0.9'))), ['/rows/0/serial']);
});
