import { eachStore } from '../store/test-stores.ts';
import { apiBench, codeOf, complaints, described } from './api.fixture.ts';
import { discoveredMachine } from './things.fixture.ts';

const bmc = { username: 'admin', password: 'hunter2' };

eachStore(
  'an unknown machine is shown with what it told, accepted, rejected and forgotten',
  async (t, store, { clock }) => {
    const bench = await apiBench(t, store, clock);
    const { operator } = bench;
    const { rack } = await described(bench, store);
    const ids = [
      await discoveredMachine(store, 1),
      await discoveredMachine(store, 2),
      await discoveredMachine(store, 3),
    ];
    const [first, second, third] = ids.map((id) => `/discovered-machines/${id}`) as [string, string, string];
    const { machines } = (await operator.get('/discovered-machines')).body as { machines: { id: string }[] };
    t.same(new Set(machines.map(({ id }) => id)), new Set(ids));
    t.match((await operator.get(first)).body, {
      state: 'waiting',
      facts: {
        serial: 'D1',
        bmcAddress: '10.0.7.1',
        disks: [{ wear: 3 }],
        nics: [{ neighbour: 'sw-7/eth3' }],
        dimms: [],
      },
    });

    const accept = (path: string, change: object = {}) =>
      operator.post(`${path}/accept`, { name: 'm1', rack, bmc, ...change });
    t.same(complaints(await accept(first, { rack: 'rck_none' })), ['/rack']);
    t.same(complaints(await accept(second)), ['/bmc/address'], 'this one told none');
    const accepted = await accept(first);
    t.match(accepted, { status: 202, body: { name: 'm1', state: 'inspecting', bmc: { address: '10.0.7.1' } } });
    t.match((await operator.get(first)).body, { state: 'enrolled', machine: (accepted.body as { id: string }).id });
    t.equal(codeOf(await accept(first, { name: 'm2' })), 'state.conflict');
    t.equal(codeOf(await operator.post(`${first}/reject`)), 'state.conflict');
    t.equal(codeOf(await operator.delete(first)), 'state.conflict');

    t.match((await operator.post(`${second}/reject`)).body, { state: 'rejected' });
    t.equal(codeOf(await accept(second, { bmc: { ...bmc, address: '10.0.7.2' } })), 'state.conflict');
    t.equal((await operator.delete(third)).status, 204);
    for (const answer of [await operator.get(third), await accept(third), await operator.delete(third)]) {
      t.equal(codeOf(answer), 'not-found');
    }
    t.notMatch(bench.logged(), 'hunter2');
  },
);

eachStore('a rule names at least one thing, a network of BMCs, and what there is', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { operator } = bench;
  const { rack } = await described(bench, store);
  const rule = { name: 'lab', rack, match: { macPrefix: '52:54:00' }, bmc: { ...bmc, network: '10.9.0.0/24' } };
  for (const [body, fields] of [
    [{ ...rule, match: {} }, ['/match']],
    [{ ...rule, rack: 'rck_none' }, ['/rack']],
    [{ ...rule, match: { subnet: 'net_none' } }, ['/match/subnet']],
    [{ ...rule, bmc: { ...rule.bmc, network: 'anywhere' } }, ['/bmc/network']],
    [{ ...rule, match: { macPrefix: '52:5' } }, ['/match/macPrefix']],
    [{ ...rule, match: { switchPort: '' } }, ['/match/switchPort']],
    [{ ...rule, match: { switchPort: 'leaf\u001b[2J' } }, ['/match/switchPort']],
    [{ ...rule, match: { firmwareVersion: 'é' } }, ['/match/firmwareVersion']],
  ] as const) {
    t.same(complaints(await operator.post('/accept-rules', body)), fields, JSON.stringify(body));
  }
  const added = await operator.post('/accept-rules', rule);
  t.match(added, { status: 201, body: { namePrefix: 'lab-', bmc: { network: '10.9.0.0/24', port: 623 } } });
  t.same(complaints(await operator.post('/accept-rules', rule)), ['/name']);
  t.same((await operator.get('/accept-rules')).body, { rules: [added.body] });
  const path = `/accept-rules/${(added.body as { id: string }).id}`;
  t.equal((await operator.delete(path)).status, 204);
  t.equal(codeOf(await operator.delete(path)), 'not-found');
  for (const match of [{ switchPort: 'leaf-3/*' }, { firmwareVendor: 'Dell*' }, { firmwareVersion: '2.*' }]) {
    const [name = ''] = Object.keys(match).map((key) => key.toLowerCase());
    const alone = await operator.post('/accept-rules', { ...rule, name, match });
    t.match(alone, { status: 201, body: { match: { macPrefix: null, ...match } } });
  }
});
