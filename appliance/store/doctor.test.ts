import { examine, invariantCount } from './doctor.ts';
import { eachStore } from './test-stores.ts';

eachStore('a fresh database is healthy, and every invariant was looked at', async (t, store) => {
  t.same(await examine(store.read), []);
  t.ok(invariantCount() >= 15);
});

eachStore('what is held by nobody is found and named', async (t, store) => {
  await store.transaction(async (tx) => {
    await tx.insertInto('tenants').values({ id: 'ten_1', name: 'one', created_at: 0 }).execute();
    await tx
      .insertInto('quotas')
      .values({
        holder_kind: 'tenant',
        holder_id: 'ten_1',
        tenant_id: 'ten_1',
        max_servers: 1,
        max_cores: 1,
        max_memory_mib: 1,
        max_disk_gib: 1,
        used_servers: 1,
        used_cores: 0,
        used_memory_mib: 0,
        used_disk_gib: 0,
      })
      .execute();
    await tx.insertInto('regions').values({ id: 'reg_1', name: 'lab' }).execute();
    await tx
      .insertInto('subnets')
      .values({
        id: 'sub_1',
        region_id: 'reg_1',
        role: 'both',
        family: 4,
        cidr: '10.0.0.0/24',
        gateway: null,
        dns: '[]',
        server_first: '10.0.0.10',
        server_last: '10.0.0.20',
        reserved_first: null,
        reserved_last: null,
        lease_first: null,
        lease_last: null,
      })
      .execute();
    await tx
      .insertInto('addresses')
      .values({
        subnet_id: 'sub_1',
        address: '10.0.0.10',
        holder_kind: 'attempt',
        holder_id: 'att_gone',
        tenant_id: 'ten_1',
        held_at: 0,
      })
      .execute();
  });
  t.same(
    (await examine(store.read)).map(({ subject }) => subject).sort(),
    ['10.0.0.10', 'ten_1'],
    'the ownerless address and the quota that nobody uses',
  );
});

eachStore('a quota that differs from what is held, or is missing, is named for any holder', async (t, store) => {
  await store.transaction(async (tx) => {
    const at = { created_at: 0 };
    await tx
      .insertInto('tenants')
      .values({ id: 'ten_1', name: 'one', ...at })
      .execute();
    const project = { tenant_id: 'ten_1', ...at };
    await tx
      .insertInto('projects')
      .values([
        { id: 'prj_1', name: 'web', ...project },
        { id: 'prj_2', name: 'db', ...project },
        { id: 'prj_3', name: 'gone', ...project, deleted_at: 1 },
      ])
      .execute();
    const person = { email: null, disabled_at: null, ...at };
    await tx
      .insertInto('users')
      .values([
        { id: 'usr_0', tenant_id: null, name: 'op', role: 'operator', ...person },
        { id: 'usr_1', tenant_id: 'ten_1', name: 'ann', role: 'member', ...person },
        { id: 'usr_2', tenant_id: 'ten_1', name: 'bob', role: 'member', ...person },
      ])
      .execute();
    const limits = { max_servers: 1, max_cores: 1, max_memory_mib: 1, max_disk_gib: 1 };
    const used = { used_servers: 0, used_cores: 0, used_memory_mib: 0, used_disk_gib: 0 };
    const quota = { tenant_id: 'ten_1', ...limits, ...used };
    await tx
      .insertInto('quotas')
      .values([
        { holder_kind: 'tenant', holder_id: 'ten_1', ...quota },
        { holder_kind: 'project', holder_id: 'prj_1', ...quota, used_cores: 1 },
        { holder_kind: 'user', holder_id: 'usr_1', ...quota, used_disk_gib: 1 },
      ])
      .execute();
  });
  t.same(
    (await examine(store.read)).map(({ invariant, subject }) => `${subject}: ${invariant}`).sort(),
    [
      'prj_1: the quota in use is what requests that have not ended were admitted for',
      'prj_2: every tenant, project and user of a tenant has a quota',
      'usr_1: the quota in use is what requests that have not ended were admitted for',
      'usr_2: every tenant, project and user of a tenant has a quota',
    ],
    'an operator needs none, nor does a project that was deleted',
  );
});
