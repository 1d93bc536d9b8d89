import type { Store } from '../store/store.ts';
import { eachStore, sqliteStore } from '../store/test-stores.ts';
import { addUser } from '../tenants/users.ts';
import { defaultQuotas } from '../tenants/quota.ts';
import type { ApiBench, Caller } from './api.fixture.ts';
import { apiBench, codeOf, complaints, described, order } from './api.fixture.ts';

interface Quota {
  readonly kind: string;
  readonly id: string;
  readonly name: string;
  readonly limits: { readonly servers: number; readonly cores: number };
  readonly used: { readonly servers: number };
}

eachStore('everybody sees the quotas that are theirs, and no others', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { id: acme, member: program } = await bench.tenant('acme');
  const { member: rival } = await bench.tenant('rival');
  const ann = await person(bench, store, acme, 'ann');
  await person(bench, store, acme, 'bob');
  const admin = await bench.caller({ tenantId: acme, role: 'tenant-admin' });
  const seen = async (who: Caller, query = '') => {
    const { quotas } = (await who.get(`/quotas${query}`)).body as { quotas: Quota[] };
    return quotas.map(({ kind, name }) => `${kind} ${name}`).sort();
  };
  t.same(await seen(program), ['project default', 'tenant acme']);
  t.same(await seen(ann.caller), ['project default', 'tenant acme', 'user ann']);
  t.same(await seen(admin), ['project default', 'tenant acme', 'user ann', 'user bob']);
  t.same(await seen(rival), ['project default', 'tenant rival']);
  t.equal((await seen(bench.operator)).length, 6);
  t.same(await seen(bench.operator, `?tenant=${acme}&kind=tenant`), ['tenant acme']);

  t.match((await ann.caller.get(`/quotas/user/${ann.id}`)).body, {
    name: 'ann',
    tenant: acme,
    limits: defaultQuotas.user,
    used: { servers: 0, cores: 0, memoryMib: 0, diskGib: 0 },
  });
  for (const stranger of [rival, program]) {
    t.equal((await stranger.get(`/quotas/user/${ann.id}`)).status, 404, 'as if there were none');
  }
  t.equal((await ann.caller.get(`/quotas/robot/${ann.id}`)).status, 400);
});

eachStore('what an operator sets holds from the next order on, and takes nothing away', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  await described(bench, store);
  const { id: acme, member } = await bench.tenant('acme');
  const { operator } = bench;
  t.equal((await member.post('/servers', order())).status, 202);
  t.equal((await member.post('/servers', order({ hostname: 'web-2' }))).status, 202);
  const set = await operator.send('PATCH', `/quotas/tenant/${acme}`, { servers: 1, reason: 'unpaid' });
  t.match(set, { status: 200, body: { limits: { servers: 1, cores: 10_000 }, used: { servers: 2, cores: 4 } } });
  const refused = await member.post('/servers', order({ hostname: 'web-3' }));
  t.match(refused, {
    status: 403,
    body: {
      error: {
        code: 'quota.exceeded',
        details: {
          holder: { kind: 'tenant', id: acme, name: 'acme' },
          short: [{ measure: 'servers', asked: 1, used: 2, limit: 1 }],
        },
      },
    },
  });
  t.equal(((await member.get('/servers')).body as { servers: [] }).servers.length, 2);
  await operator.send('PATCH', `/quotas/tenant/${acme}`, { servers: 3, reason: 'paid' });
  t.equal((await member.post('/servers', order({ hostname: 'web-3' }))).status, 202);
  t.match(await told(bench), [
    { type: 'quota.changed', key: acme, tenantId: acme, data: { holderKind: 'tenant', servers: 1, reason: 'unpaid' } },
    { type: 'quota.changed', data: { servers: 3, cores: 10_000, reason: 'paid' } },
  ]);

  t.equal((await operator.send('PATCH', '/quotas/tenant/gone', { servers: 3, reason: 'x' })).status, 404);
  t.equal((await member.send('PATCH', `/quotas/tenant/${acme}`, { servers: 9, reason: 'x' })).status, 403);
  const wrong = { servers: -1, cores: 1.5, disk: 3, memoryMib: '4' };
  t.same(complaints(await operator.send('PATCH', `/quotas/tenant/${acme}`, wrong)), [
    ...['/cores', '/disk', '/memoryMib', '/reason', '/servers'],
  ]);
  t.equal((await operator.send('PATCH', `/quotas/tenant/${acme}`, { reason: 'nothing' })).status, 400);
});

eachStore('more is asked for, approved once, and holds at once', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { id: acme } = await bench.tenant('acme');
  const ann = await person(bench, store, acme, 'ann');
  const { operator } = bench;
  const ask = { kind: 'user', holder: ann.id, servers: 200, cores: 20_000, reason: 'the big show' };
  const { id } = (await ann.caller.post('/quota-requests', ask)).body as { id: string };
  t.match(await ann.caller.post('/quota-requests', { ...ask, servers: 300 }), {
    status: 409,
    body: { error: { code: 'state.conflict' } },
  });
  t.match(await requests(operator, '?state=pending'), [
    { id, name: 'ann', tenant: acme, asked: { servers: 200, cores: 20_000 }, reason: 'the big show', decidedBy: null },
  ]);
  // Somebody raised one of them further meanwhile.
  await operator.send('PATCH', `/quotas/user/${ann.id}`, { cores: 30_000, reason: 'by phone' });
  const approve = { decision: 'approve', reason: 'enjoy' };
  const twice = await Promise.all([1, 2].map(() => operator.post(`/quota-requests/${id}/decision`, approve)));
  t.same(twice.map(({ status }) => status).sort(), [200, 409], 'once');
  t.equal((await operator.post(`/quota-requests/${id}/decision`, { decision: 'deny', reason: 'no' })).status, 409);
  t.match((await ann.caller.get(`/quotas/user/${ann.id}`)).body, { limits: { servers: 200, cores: 30_000 } });
  t.match(await requests(ann.caller), [{ id, state: 'approved', decision: 'enjoy' }]);
  t.match(await told(bench), [
    { type: 'quota.increase-asked', key: id, data: { asked: { servers: 200, cores: 20_000 }, reason: 'the big show' } },
    { type: 'quota.changed', data: { holderId: ann.id, servers: 100, cores: 30_000 } },
    { type: 'quota.changed', data: { holderId: ann.id, servers: 200, cores: 30_000, reason: 'enjoy' } },
    { type: 'quota.increase-decided', key: id, data: { decision: 'approved', reason: 'enjoy' } },
  ]);
});

eachStore('what is denied changes nothing, and may be asked for again', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { id: acme, member } = await bench.tenant('acme');
  const { operator } = bench;
  const ask = { kind: 'tenant', holder: acme, diskGib: 2_000_000, reason: 'backups' };
  const { id } = (await member.post('/quota-requests', ask)).body as { id: string };
  t.equal((await member.post(`/quota-requests/${id}/decision`, { decision: 'approve', reason: 'me' })).status, 403);
  t.match((await operator.post(`/quota-requests/${id}/decision`, { decision: 'deny', reason: 'use tape' })).body, {
    state: 'denied',
    decision: 'use tape',
  });
  t.match((await member.get(`/quotas/tenant/${acme}`)).body, { limits: defaultQuotas.tenant });
  t.equal((await member.post('/quota-requests', ask)).status, 201);
  const unknown = await operator.post('/quota-requests/qrq_gone/decision', { decision: 'deny', reason: 'x' });
  t.equal(unknown.status, 404);
});

sqliteStore('nobody asks for what is not theirs, or for less', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { id: acme, member } = await bench.tenant('acme');
  const { id: other } = await bench.tenant('rival');
  const bob = await person(bench, store, acme, 'bob');
  const ann = await person(bench, store, acme, 'ann');
  const auditor = await bench.caller({ tenantId: acme, role: 'auditor' });
  const ask = { kind: 'tenant', holder: acme, servers: 101, reason: 'growth' };
  t.equal((await ann.caller.post('/quota-requests', { ...ask, kind: 'user', holder: bob.id })).status, 404);
  t.equal((await member.post('/quota-requests', { ...ask, holder: other })).status, 404);
  t.equal((await auditor.post('/quota-requests', ask)).status, 403);
  t.same(complaints(await member.post('/quota-requests', { ...ask, servers: 100, cores: 1 })), ['/cores', '/servers']);
  t.equal((await member.post('/quota-requests', { kind: 'tenant', holder: acme, reason: 'nothing' })).status, 400);
  t.same(await requests(bench.operator), []);
  await ann.caller.post('/quota-requests', { ...ask, kind: 'user', holder: ann.id });
  t.same(await requests(bob.caller), [], "a colleague's");
  t.equal((await requests(auditor)).length, 1);
});

sqliteStore('what was asked for a project that is gone can only be denied', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { id: acme } = await bench.tenant('acme');
  const { operator } = bench;
  const admin = await bench.caller({ tenantId: acme, role: 'tenant-admin' });
  const { id: project } = (await admin.post('/projects', { name: 'web' })).body as { id: string };
  const ask = { kind: 'project', holder: project, servers: 101, reason: 'growth' };
  const { id } = (await admin.post('/quota-requests', ask)).body as { id: string };
  t.equal((await admin.delete(`/projects/${project}`)).status, 204);
  const approved = await operator.post(`/quota-requests/${id}/decision`, { decision: 'approve', reason: 'ok' });
  t.equal(codeOf(approved), 'state.conflict');
  const denied = await operator.post(`/quota-requests/${id}/decision`, { decision: 'deny', reason: 'it is gone' });
  t.match(denied, { status: 200, body: { state: 'denied', name: 'web' } });
});

async function requests(who: Caller, query = ''): Promise<unknown[]> {
  return ((await who.get(`/quota-requests${query}`)).body as { requests: unknown[] }).requests;
}

async function told(bench: ApiBench) {
  await bench.sequence();
  return (await bench.events.read(0, 100)).filter(({ type }) => type.startsWith('quota.'));
}

/** A member of a tenant with a key of its own. */
async function person(bench: ApiBench, store: Store, tenantId: string, name: string) {
  const id = `usr_${name}`;
  await store.transaction((tx) => addUser(tx, { id, tenantId, name, role: 'member' }, 0));
  return { id, caller: await bench.caller({ tenantId, userId: id, role: 'member' }) };
}
