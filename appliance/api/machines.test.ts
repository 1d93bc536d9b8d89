import { eachStore } from '../store/test-stores.ts';
import { apiBench, codeOf, complaints, described } from './api.fixture.ts';

interface Machine {
  id: string;
  state: string;
}

const bmc = { address: '10.0.0.1', username: 'admin', password: 'hunter2' };
const nics = [{ mac: '52-54-00-00-00-0A', role: 'both' }];

eachStore('an enrolled machine is being inspected and has its address', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { rack } = await described(bench, store);
  const { operator } = bench;
  const added = await operator.post('/machines', { name: 'm1', rack, bmc, nics });
  t.equal(added.status, 202);
  t.match(added.body, {
    name: 'm1',
    rack,
    state: 'inspecting',
    diskState: 'clean',
    cores: null,
    bmc: { kind: 'ipmi', address: '10.0.0.1', port: 623 },
    nics: [{ mac: '52:54:00:00:00:0a', role: 'both', address: '10.1.0.10' }],
    disks: [],
  });
  const { id } = added.body as Machine;
  t.same((await operator.get(`/machines/${id}`)).body, added.body);
  t.same((await operator.get('/machines')).body, { machines: [added.body] });
  t.equal(codeOf(await operator.get('/machines/mch_none')), 'not-found');
});

eachStore('what is wrong with a machine is told field by field, and none is enrolled', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { rack } = await described(bench, store);
  const { operator } = bench;
  const machine = (change: object) => ({ name: 'm1', rack, bmc, nics, ...change });
  for (const [change, fields] of [
    [{ bmc: { ...bmc, address: 'bmc.example' } }, ['/bmc/address']],
    [{ bmc: { ...bmc, cipherSuite: 0 } }, ['/bmc/cipherSuite']],
    [{ bmc: { ...bmc, password: 'x'.repeat(21), port: 0, user: 'a' } }, ['/bmc/password', '/bmc/port', '/bmc/user']],
    [{ nics: [] }, ['/nics']],
    [{ nics: [{ mac: '52:54:00', role: 'any' }] }, ['/nics/0/mac', '/nics/0/role']],
    [{ nics: [{ mac: '01:00:5e:00:00:01', role: 'both' }] }, ['/nics/0/mac']],
    [{ nics: [{ mac: '52:54:00:00:00:01', role: 'customer' }] }, ['/nics']],
    [{ rack: 'rck_none' }, ['/rack']],
    [{ disk: { minBytes: -1, serial: 'a b' } }, ['/disk/minBytes', '/disk/serial']],
  ] as const) {
    const answer = await operator.post('/machines', machine(change));
    t.equal(codeOf(answer), 'request.invalid', JSON.stringify(change));
    t.same(complaints(answer), fields, JSON.stringify(change));
  }
  t.same((await operator.get('/machines')).body, { machines: [] });

  await operator.post('/machines', machine({}));
  const second = {
    name: 'm2',
    bmc: { ...bmc, address: '10.0.0.2' },
    nics: [{ mac: '52:54:00:00:00:02', role: 'both' }],
  };
  t.same(complaints(await operator.post('/machines', machine({ ...second, name: 'm1' }))), ['/name']);
  t.same(complaints(await operator.post('/machines', machine({ ...second, bmc }))), ['/bmc/address']);
  t.same(complaints(await operator.post('/machines', machine({ ...second, nics }))), ['/nics']);
  const twice = [...second.nics, ...second.nics];
  t.same(complaints(await operator.post('/machines', machine({ ...second, nics: twice }))), ['/nics/1/mac']);
  t.equal(((await operator.get('/machines')).body as { machines: [] }).machines.length, 1);
});

eachStore("a machine's power is ours while it is being worked on", async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { rack } = await described(bench, store);
  const { operator, commands } = bench;
  const { id } = (await operator.post('/machines', { name: 'm1', rack, bmc, nics })).body as Machine;
  const refused = await operator.post(`/machines/${id}/power`, { want: 'off' });
  t.equal(refused.status, 409);
  t.equal(codeOf(refused), 'state.conflict');
  t.equal(codeOf(await operator.post(`/machines/${id}/inspect`)), 'state.conflict');
  t.equal(codeOf(await operator.post(`/machines/${id}/readmit`)), 'state.conflict');
  t.same(commands, []);
  t.same((await operator.get(`/machines/${id}/power`)).body, { power: 'off' }, 'reading is free');

  await store.transaction((tx) => tx.updateTable('machines').set({ state: 'available' }).execute());
  t.same((await operator.post(`/machines/${id}/power`, { want: 'on' })).body, { power: 'on' });
  t.same(complaints(await operator.post(`/machines/${id}/power`, { want: 'explode' })), ['/want']);
  t.same(commands, ['10.0.0.1 on']);
});

eachStore(
  'a readmitted machine is proven off, frees what it was set aside with, and is looked at',
  async (t, store, c) => {
    const bench = await apiBench(t, store, c.clock);
    const { rack } = await described(bench, store);
    const { operator, commands } = bench;
    const { id } = (await operator.post('/machines', { name: 'm1', rack, bmc, nics })).body as Machine;
    const { id: subnet } = await store.read.selectFrom('subnets').select('id').executeTakeFirstOrThrow();
    await store.transaction(async (tx) => {
      const set = { state: 'quarantined', quarantine_reason: 'its BMC was silent', disk_state: 'dirty' } as const;
      await tx.updateTable('machines').set(set).execute();
      const address = { subnet_id: subnet, address: '10.1.0.100', tenant_id: null, held_at: 0 };
      await tx
        .insertInto('addresses')
        .values({ ...address, holder_kind: 'set-aside', holder_id: id })
        .execute();
    });
    const readmitted = await operator.post(`/machines/${id}/readmit`);
    t.equal(readmitted.status, 202);
    t.match(readmitted.body, { state: 'releasing', quarantineReason: null }, 'its disk is wiped');
    t.same(commands, ['10.0.0.1 off']);
    const held = await store.read.selectFrom('addresses').select('address').execute();
    t.same(held, [{ address: '10.1.0.10' }], 'its boot address stays');
  },
);

eachStore('an operator says where a NIC is plugged in, and takes it back', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { rack } = await described(bench, store);
  const { operator } = bench;
  const plugged = [{ ...nics[0], switchPort: 'sw-7/eth3' }];
  const { id } = (await operator.post('/machines', { name: 'm1', rack, bmc, nics: plugged })).body as Machine;
  t.match((await operator.get(`/machines/${id}`)).body, { nics: [{ switchPort: 'sw-7/eth3' }] });
  const nic = `/machines/${id}/nics/52-54-00-00-00-0A`;
  const moved = await operator.send('PATCH', nic, { switchPort: '10.78.0.1/0x00040007' });
  t.match(moved, { status: 200, body: { nics: [{ mac: '52:54:00:00:00:0a', switchPort: '10.78.0.1/0x00040007' }] } });
  const anywhere = await operator.send('PATCH', nic, { switchPort: null });
  t.match(anywhere.body, { nics: [{ switchPort: null }] });

  t.same(complaints(await operator.send('PATCH', nic, { switchPort: '' })), ['/switchPort']);
  t.same(complaints(await operator.send('PATCH', nic, { switchPort: 'sw\n7' })), ['/switchPort']);
  t.equal((await operator.send('PATCH', nic, {})).status, 400);
  const other = `/machines/${id}/nics/52-54-00-00-00-99`;
  t.equal((await operator.send('PATCH', other, { switchPort: null })).status, 404);
  t.equal((await operator.send('PATCH', nic.replace(id, 'mch_none'), { switchPort: null })).status, 404);
  const { member } = await bench.tenant('acme');
  t.equal((await member.send('PATCH', nic, { switchPort: null })).status, 403);
});
