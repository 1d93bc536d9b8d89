import { test } from 'tap';

import { eachStore, sqliteStore } from '../store/test-stores.ts';
import { SSH_KEY, apiBench, codeOf, complaints, described, order } from './api.fixture.ts';
import { shownTo } from './servers.ts';

interface Server {
  id: string;
  state: string;
  image: string;
  attempts: unknown[];
}

eachStore('an order is answered with a server that waits for its machine', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  await described(bench, store);
  const { id: tenant, member } = await bench.tenant('acme');
  const admin = await bench.caller({ role: 'tenant-admin', tenantId: tenant });
  t.equal((await admin.post('/projects', { name: 'shop' })).status, 201);
  const ordered = await member.post('/servers', order({ userData: '#cloud-config\n', project: 'shop' }));
  t.equal(ordered.status, 202);
  t.match(ordered.body, {
    tenant,
    project: 'shop',
    hostname: 'web-1',
    region: 'west',
    flavor: 'small',
    image: 'debian:12',
    provider: 'bare-metal',
    cluster: null,
    state: 'allocating',
    status: 'provisioning',
    connection: null,
    failure: null,
    attempts: [{ number: 1, outcome: 'running', machine: null }],
    createdAt: new Date(clock.now()).toISOString(),
  });
  const { id } = ordered.body as Server;
  t.same((await member.get(`/servers/${id}`)).body, ordered.body);
  t.same((await member.get('/servers')).body, { servers: [ordered.body] });
  t.same((await bench.operator.post('/servers', order({ tenant }))).status, 202, 'an operator orders for a tenant');
  const newest = (await member.get('/servers?limit=1')).body as { servers: Server[] };
  t.equal(newest.servers.length, 1);
  t.not(newest.servers[0]?.id, id, 'the newest comes first');
});

eachStore('what is wrong with an order is told field by field, and nothing is ordered', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  await described(bench, store);
  const { member } = await bench.tenant('acme');
  for (const [change, fields] of [
    [{ hostname: undefined, flavor: undefined }, ['/flavor', '/hostname']],
    [{ hostname: 'Web_1', colour: 'red', size: 3 }, ['/colour', '/hostname', '/size']],
    [{ sshKeys: [] }, ['/sshKeys']],
    [{ sshKeys: [SSH_KEY, 'not a key at all', 5] }, ['/sshKeys/1', '/sshKeys/2']],
    [{ sshKeys: [`${SSH_KEY}\nssh-ed25519 ${'B'.repeat(68)}`] }, ['/sshKeys/0']],
    [{ sshKeys: [SSH_KEY, SSH_KEY] }, ['/sshKeys']],
    [{ userData: 'x'.repeat(65_537) }, ['/userData']],
    [{ hostname: 7, region: null }, ['/hostname', '/region']],
    [
      { region: 'east', flavor: 'huge', image: 'debian:13', project: 'x' },
      ['/flavor', '/image', '/project', '/region'],
    ],
  ] as const) {
    const answer = await member.post('/servers', order(change));
    t.equal(answer.status, 400);
    t.equal(codeOf(answer), 'request.invalid');
    t.same(complaints(answer), fields);
  }
  t.same(complaints(await member.get('/servers?limit=0&page=2')), ['/querystring/limit', '/querystring/page']);
  t.same(complaints(await member.get('/servers/not.an.id')), ['/params/id']);
  t.same(complaints(await bench.operator.post('/servers', order())), ['/tenant'], 'an operator says for whom');
  t.same(complaints(await bench.operator.post('/servers', order({ tenant: 'ten_none' }))), ['/tenant']);
  t.same((await bench.operator.get('/servers')).body, { servers: [] });
});

eachStore('a server tells its steps, and what it depends on', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  await described(bench, store);
  const { member } = await bench.tenant('acme');
  const { id } = (await member.post('/servers', order())).body as Server;
  const dependent = await member.post('/servers', order({ dependsOn: [id] }));
  const begun = { status: 'pending', attempts: 0, startedAt: null, endedAt: null, reason: null };
  t.match(dependent.body, {
    state: 'queued',
    status: 'pending',
    dependsOn: [id],
    steps: ['allocate', 'configure', 'activate', 'verify'].map((name) => ({ name, ...begun })),
  });
  const unknown = await member.post('/servers', order({ dependsOn: [id, 'srv_none'] }));
  t.same([unknown.status, complaints(unknown)], [400, ['/dependsOn/1']]);
  t.same(complaints(await member.post('/servers', order({ dependsOn: [id, id] }))), ['/dependsOn']);
});

eachStore('several servers are ordered at once, all or none', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  await described(bench, store);
  const { member } = await bench.tenant('acme');
  const named = (name: string, ...dependsOn: string[]) => order({ name, hostname: name, dependsOn });
  const cyclic = await member.post('/servers/batch', { servers: [named('a', 'b'), named('b', 'a')] });
  t.same([cyclic.status, codeOf(cyclic)], [400, 'request.invalid']);
  t.match(cyclic.body, { error: { message: /a → b → a/, details: { cycle: ['a', 'b', 'a'] } } });
  const wrong = { servers: [named('a'), { ...named('b'), flavor: 'none' }] };
  t.same(complaints(await member.post('/servers/batch', wrong)), ['/servers/1/flavor']);
  t.same(complaints(await member.post('/servers/batch', { servers: [] })), ['/servers']);
  t.same(complaints(await member.post('/servers/batch', { servers: [{ ...named('a'), dependsOn: ['ä'] }] })), [
    '/servers/0/dependsOn/0',
  ]);
  t.same((await member.get('/servers')).body, { servers: [] });

  const again = { 'idempotency-key': 'batch-1' };
  const ordered = await member.post('/servers/batch', { servers: [named('web', 'db'), named('db')] }, again);
  t.equal(ordered.status, 202);
  const { servers } = ordered.body as { servers: Server[] };
  t.match(servers, [
    { hostname: 'web', state: 'queued', dependsOn: [servers[1]!.id] },
    { hostname: 'db', state: 'allocating', dependsOn: [] },
  ]);
  const repeated = await member.post('/servers/batch', { servers: [named('web', 'db'), named('db')] }, again);
  t.same(repeated.body, ordered.body, 'the same batch under the same key is done once');
  t.equal(((await member.get('/servers')).body as { servers: Server[] }).servers.length, 2);
});

eachStore('the same Idempotency-Key is the same server, and no other order', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  await described(bench, store);
  const [acme, rival] = [await bench.tenant('acme'), await bench.tenant('rival')];
  const again = { 'idempotency-key': 'once' };
  const [first, ...others] = await Promise.all(
    Array.from({ length: 20 }, () => acme.member.post('/servers', order(), again)),
  );
  t.equal(first!.status, 202);
  for (const other of others) t.same(other.body, first!.body, 'also when they come at once');
  const changed = await acme.member.post('/servers', order({ hostname: 'web-2' }), again);
  t.equal(changed.status, 422);
  t.equal(codeOf(changed), 'idempotency.reused');
  const { id } = first!.body as Server;
  const foreign = (await rival.member.post('/servers', order(), again)).body as Server;
  t.not(foreign.id, id, "another tenant's key is another key");
  const { servers } = (await acme.member.get('/servers')).body as { servers: Server[] };
  t.same(
    servers.map((server) => server.id),
    [id],
  );
});

eachStore('a hundred orders at once get as many servers as the quota allows', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  await described(bench, store);
  const { id: tenant, member } = await bench.tenant('acme');
  // 15 servers of 2 cores: cores run out, not servers.
  await store.transaction((tx) =>
    tx.updateTable('quotas').set({ max_cores: 31, max_servers: 20 }).where('tenant_id', '=', tenant).execute(),
  );
  const answers = await Promise.all(
    Array.from({ length: 100 }, (_, index) => member.post('/servers', order({ hostname: `web-${index}` }))),
  );
  t.equal(answers.filter(({ status }) => status === 202).length, 15);
  const refused = answers.filter(({ status }) => status === 403);
  t.equal(refused.length, 85);
  t.ok(refused.every((answer) => codeOf(answer) === 'quota.exceeded'));
  const { servers } = (await member.get('/servers')).body as { servers: Server[] };
  t.equal(servers.length, 15);
  const used = await store.read.selectFrom('quotas').selectAll().where('tenant_id', '=', tenant).executeTakeFirst();
  t.match(used, { used_servers: 15, used_cores: 30 });
});

eachStore('releasing a server twice is releasing it once', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  await described(bench, store);
  const { member } = await bench.tenant('acme');
  const { id } = (await member.post('/servers', order())).body as Server;
  t.equal((await member.delete(`/servers/${id}`)).status, 202);
  t.equal((await member.delete(`/servers/${id}`)).status, 202);
  const { reason } = await store.read.selectFrom('sagas').select('reason').executeTakeFirstOrThrow();
  t.match(JSON.parse(reason ?? '{}'), { code: 'cancelled', message: /^Cancelled by key_/ });
});

eachStore('a server that works is seen to be released as soon as that is asked for', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  await described(bench, store);
  const { member, keyId } = await bench.tenant('acme');
  const { id } = (await member.post('/servers', order())).body as Server;
  await store.transaction(async (tx) => {
    await tx.updateTable('requests').set({ state: 'completed', completed_at: clock.now() }).execute();
    await tx.updateTable('sagas').set({ state: 'completed' }).execute();
  });
  t.match((await member.delete(`/servers/${id}`)).body, { state: 'rolling-back', status: 'gone' });
  t.match((await member.delete(`/servers/${id}`)).body, { state: 'rolling-back', status: 'gone' });
  await bench.sequence();
  const moves = (await bench.events.read(0, 100)).filter(({ type }) => type === 'request.state-changed');
  t.match(moves.slice(2), [{ actor: keyId, data: { from: 'completed', to: 'rolling-back' } }]);
  t.equal(moves.length, 3, 'once');
});

eachStore('a timeline is a download that begins with the admission', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  await described(bench, store);
  const { member } = await bench.tenant('acme');
  const { id } = (await member.post('/servers', order())).body as Server;
  const timeline = await member.get(`/servers/${id}/timeline`);
  t.equal(timeline.status, 200);
  t.equal(timeline.headers['content-disposition'], `attachment; filename="${id}-timeline.json"`);
  t.match(timeline.body, {
    stages: [{ name: 'admit', startedAt: new Date(clock.now()).toISOString(), endedAt: null }],
    entries: [],
  });
});

test("a tenant's timeline tells when a BMC was told what, and not where it is", async (t) => {
  const entry = { at: 0, source: 'bmc', name: 'Chassis Control (power up)', detail: { bmc: '10.77.1.1:623' } } as const;
  const { at: _, ...same } = entry;
  t.match(shownTo({ tenantId: undefined }, entry), same);
  t.same(shownTo({ tenantId: 'ten_1' }, entry).detail, {});
  const agent = { at: 0, source: 'agent', name: 'phone-home', detail: { uptime: 18 } } as const;
  t.same(shownTo({ tenantId: 'ten_1' }, agent).detail, { uptime: 18 });
});

sqliteStore('a provider or cluster that is not there is a complaint about that field', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  await described(bench, store);
  const { member } = await bench.tenant('acme');
  for (const [change, fields] of [
    [{ provider: 'nobody' }, ['/provider']],
    [{ cluster: 'east' }, ['/cluster']],
    [{ provider: 7 }, ['/provider']],
  ] as const) {
    const answer = await member.post('/servers', order(change));
    t.equal(answer.status, 400);
    t.same(complaints(answer), fields);
  }
  t.same((await member.get('/servers')).body, { servers: [] });
});
