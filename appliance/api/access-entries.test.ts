import { eachStore, sqliteStore } from '../store/test-stores.ts';
import type { Store } from '../store/store.ts';
import type { ApiBench } from './api.fixture.ts';
import { SSH_KEY, apiBench, codeOf, complaints, described, order } from './api.fixture.ts';

const hostKey = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJu0yI2Zb3bR3cLzqmAqUnnzNsVIV1sbHGf2HIfEvZ4a';
const details = { addresses: ['198.51.100.7'], hostKey };

eachStore('what waits for a person is listed until somebody has entered it', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { operator, events, sequence } = bench;
  t.same((await operator.get('/access-entries')).body, { entries: [] });
  const { id, server, tenant } = await asked(bench, store, clock.now());
  const flavor = { name: 'small', cores: 2, memoryMib: 1024, diskGib: 10 };
  const what = { hostname: 'web-1', region: 'west', flavor, image: 'debian:12', sshKeys: [SSH_KEY] };
  t.same((await operator.get('/access-entries')).body, {
    entries: [{ id, tenant, server, ...what, askedAt: new Date(clock.now()).toISOString() }],
  });

  const first = await operator.post(`/access-entries/${id}`, details);
  t.match(first, { status: 200, body: { id, username: 'root', ...details, verify: true } });
  t.same((await operator.get('/access-entries')).body, { entries: [] });
  await clock.advance(1_000);
  const written = { ...details, username: 'root', hostKey: `${hostKey} somebody`, verify: true };
  const again = await operator.post(`/access-entries/${id}`, written);
  t.same(again.body, first.body, 'the same, however it is written');
  const other = await operator.post(`/access-entries/${id}`, { ...details, addresses: ['198.51.100.8'] });
  t.equal(other.status, 409);
  t.equal(codeOf(other), 'state.conflict');
  await sequence();
  const entered = (await events.read(0, 100)).filter(({ type }) => type === 'access.entered');
  t.match(entered, [{ key: id, tenantId: tenant, data: { requestId: server, addresses: details.addresses } }]);
  t.equal(entered.length, 1);
});

sqliteStore('of two who enter at once, one is told that the other was first', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { id } = await asked(bench, store, clock.now());
  const answers = await Promise.all(
    ['198.51.100.7', '198.51.100.8'].map((address) =>
      bench.operator.post(`/access-entries/${id}`, { ...details, addresses: [address] }),
    ),
  );
  t.same(answers.map(({ status }) => status).sort(), [200, 409]);
});

sqliteStore('what is wrong is told field by field, and changes nothing', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { operator } = bench;
  const { id, tenant } = await asked(bench, store, clock.now());
  const member = await bench.caller({ tenantId: tenant });
  t.equal((await member.get('/access-entries')).status, 403);
  t.equal((await member.post(`/access-entries/${id}`, details)).status, 403);
  for (const [change, field] of [
    [{ addresses: [] }, '/addresses'],
    [{ addresses: ['198.51.100.7', '127.0.0.1'] }, '/addresses/1'],
    [{ hostKey: `ssh-rsa ${'A'.repeat(80)}` }, '/hostKey'],
    [{ hostKey: undefined }, '/hostKey'],
    [{ username: 'root; reboot' }, '/username'],
    [{ password: 'hunter2' }, '/password'],
  ] as const) {
    const answer = await operator.post(`/access-entries/${id}`, { ...details, ...change });
    t.equal(answer.status, 400, field);
    t.same(complaints(answer), [field]);
  }
  t.equal((await operator.post('/access-entries/att_none', details)).status, 404);
  await store.transaction((tx) => tx.updateTable('requests').set({ state: 'rolling-back' }).execute());
  t.equal((await operator.post(`/access-entries/${id}`, details)).status, 409, 'not wanted any more');
  t.same((await operator.get('/access-entries')).body, { entries: [] });
  const rows = await store.read.selectFrom('access_entries').select(['connection', 'entered_at']).execute();
  t.same(rows, [{ connection: null, entered_at: null }]);
});

/** A request whose saga has come to where a person is asked. */
async function asked(bench: ApiBench, store: Store, at: number) {
  await described(bench, store);
  const { id: tenant, member } = await bench.tenant('acme');
  const { id: server } = (await member.post('/servers', order())).body as { id: string };
  const { id } = await store.read
    .selectFrom('attempts')
    .select('id')
    .where('request_id', '=', server)
    .executeTakeFirstOrThrow();
  const nothing = { connection: null, entered_by: null, entered_at: null };
  await store.transaction(async (tx) => {
    await tx.updateTable('requests').set({ state: 'activating' }).where('id', '=', server).execute();
    const entry = { attempt_id: id, tenant_id: tenant, asked_at: at, ...nothing };
    await tx.insertInto('access_entries').values(entry).execute();
  });
  return { id, server, tenant };
}
