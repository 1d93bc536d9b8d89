import { MINUTE, SECOND } from '../kernel/clock.ts';
import { createIds } from '../kernel/ids.ts';
import { Secret } from '../kernel/secret.ts';
import { eachStore, sqliteStore } from '../store/test-stores.ts';
import { adoptApiKey } from '../tenants/api-key.ts';
import type { ApiBench, Answer } from './api.fixture.ts';
import { Caller, apiBench, codeOf, complaints, described, order } from './api.fixture.ts';

eachStore('a rotated key has a new secret; the old one is valid for the overlap and no longer', async (t, store, c) => {
  const { clock } = c;
  const bench = await apiBench(t, store, clock);
  const { keyId, member } = await bench.tenant('acme');
  const rotate = async (overlapSeconds: number) => {
    const { key } = (await bench.operator.post(`/api-keys/${keyId}/rotate`, { overlapSeconds })).body as {
      key: string;
    };
    return new Caller(bench.app, key);
  };
  const second = await rotate(60);
  for (const caller of [member, second]) t.equal((await caller.get('/servers')).status, 200);
  await clock.advance(MINUTE);
  t.equal(codeOf(await member.get('/servers')), 'auth.expired');
  t.equal((await second.get('/servers')).status, 200);

  const third = await rotate(600);
  const fourth = await rotate(0);
  for (const caller of [member, second, third]) t.equal(codeOf(await caller.get('/servers')), 'auth.expired');
  t.equal((await fourth.get('/servers')).status, 200, 'an overlap that runs is cut short by a rotation without one');
  await bench.operator.delete(`/api-keys/${keyId}`);
  for (const caller of [member, fourth]) t.equal(codeOf(await caller.get('/servers')), 'auth.revoked');
  const again = await bench.operator.post(`/api-keys/${keyId}/rotate`, { overlapSeconds: 0 });
  t.equal(codeOf(again), 'state.conflict');
});

eachStore('of two that rotate a key at once each gets a secret, and one of them is the last', async (t, store, c) => {
  const bench = await apiBench(t, store, c.clock);
  const { keyId } = await bench.tenant('acme');
  const answers = await Promise.all(
    Array.from({ length: 8 }, () => bench.operator.post(`/api-keys/${keyId}/rotate`, { overlapSeconds: 0 })),
  );
  const valid: string[] = [];
  for (const { status, body } of answers) {
    t.equal(status, 200);
    const { key } = body as { key: string };
    if ((await new Caller(bench.app, key).get('/servers')).status === 200) valid.push(key);
  }
  t.equal(valid.length, 1);
});

eachStore('a key ends when it expires, and when its user is disabled', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { id: tenantId } = await bench.tenant('acme');
  const admin = await bench.caller({ role: 'tenant-admin', tenantId });
  const expiresAt = new Date(clock.now() + MINUTE).toISOString();
  const short = await issued(bench, await admin.post('/api-keys', { name: 'short', expiresAt }));
  await clock.advance(MINUTE - SECOND);
  t.equal((await short.get('/servers')).status, 200);
  await clock.advance(SECOND);
  t.equal(codeOf(await short.get('/servers')), 'auth.expired');
  t.same(complaints(await admin.post('/api-keys', { name: 'late', expiresAt })), ['/expiresAt']);

  const { id: user } = (await admin.post('/users', { name: 'ann', role: 'auditor' })).body as { id: string };
  const anns = await issued(bench, await admin.post('/api-keys', { name: 'anns', user }));
  t.equal((await anns.get('/audit')).status, 200, 'with the role of its user');
  t.match((await admin.post(`/users/${user}/disable`)).body, { disabledAt: String });
  t.equal(codeOf(await anns.get('/audit')), 'auth.disabled');
  t.same(complaints(await admin.post('/api-keys', { name: 'more', user })), ['/user']);
});

sqliteStore('nobody hands out more than their own key may', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { id: tenantId, keyId } = await bench.tenant('acme');
  const narrow = await bench.caller({ role: 'tenant-admin', tenantId, scopes: ['keys:write', 'servers:read'] });
  t.equal((await narrow.post('/api-keys', { name: 'a', scopes: ['servers:read'] })).status, 201);
  for (const scopes of [undefined, ['*'], ['servers:read', 'servers:write']]) {
    t.equal(codeOf(await narrow.post('/api-keys', { name: 'b', scopes })), 'auth.forbidden');
  }
  const rotated = await narrow.post(`/api-keys/${keyId}/rotate`, { overlapSeconds: 0 });
  t.equal(codeOf(rotated), 'auth.forbidden', 'nor the secret of a key that may more');

  const admin = await bench.caller({ role: 'tenant-admin', tenantId });
  t.same(complaints(await admin.post('/api-keys', { name: 'c', role: 'operator' })), ['/role']);
  t.same(complaints(await admin.post('/users', { name: 'root', role: 'operator' })), ['/role']);
  t.same(complaints(await admin.post('/api-keys', { name: 'c', scopes: ['servers:read', 'servers'] })), ['/scopes/1']);
  t.same(complaints(await bench.operator.post('/api-keys', { name: 'c', role: 'member' })), ['/role']);
});

sqliteStore(
  'a key that was made elsewhere is adopted once, and not again after it was rotated',
  async (t, store, c) => {
    const { clock } = c;
    const bench = await apiBench(t, store, clock);
    const [key, hmacKey] = [new Secret('made-elsewhere'), new Secret('00'.repeat(32))];
    const adopt = () =>
      store.transaction((tx) =>
        adoptApiKey(tx, { name: 'first' }, key, { ids: createIds(clock), hmacKey, at: clock.now() }),
      );
    await adopt();
    const first = new Caller(bench.app, key.reveal());
    const { keys } = (await first.get('/api-keys')).body as { keys: { id: string; name: string }[] };
    const id = keys.find(({ name }) => name === 'first')?.id ?? '';
    for (const _ of [1, 2]) await bench.operator.post(`/api-keys/${id}/rotate`, { overlapSeconds: 0 });
    await adopt();
    t.equal(codeOf(await first.get('/api-keys')), 'auth.expired');
  },
);

eachStore('a project is deleted without servers, and none is ordered in one that is', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  await described(bench, store);
  const { id: tenantId, member } = await bench.tenant('acme');
  const admin = await bench.caller({ role: 'tenant-admin', tenantId });
  for (let round = 0; round < 5; round += 1) {
    const { id } = (await admin.post('/projects', { name: 'shop' })).body as { id: string };
    const [ordered, deleted] = await Promise.all([
      member.post('/servers', order({ project: 'shop' })),
      admin.delete(`/projects/${id}`),
    ]);
    const [isOrdered, isDeleted] = [ordered.status === 202, deleted.status === 204];
    t.not(isOrdered, isDeleted, `one of both: ${ordered.text}, ${deleted.text}`);
    if (!isOrdered) continue;
    t.equal(codeOf(deleted), 'state.conflict');
    // Nothing works on it here: its room is given back by hand.
    await store.transaction((tx) =>
      tx.updateTable('quotas').set({ used_servers: 0 }).where('holder_id', '=', id).execute(),
    );
    t.equal((await admin.delete(`/projects/${id}`)).status, 204);
    t.match((await member.get(`/servers/${(ordered.body as { id: string }).id}`)).body, { project: 'shop' });
  }
  const { projects } = (await member.get('/projects')).body as { projects: { id: string; name: string }[] };
  t.match(projects, [{ name: 'default' }]);
  t.equal(codeOf(await admin.delete(`/projects/${projects[0]?.id ?? ''}`)), 'state.conflict', 'the default one stays');
});

async function issued({ app }: ApiBench, answer: Answer): Promise<Caller> {
  const { key } = answer.body as { key?: string };
  if (key === undefined) throw new Error(answer.text);
  return Promise.resolve(new Caller(app, key));
}
