import { pino } from 'pino';
import type { Test } from 'tap';

import { hasCode } from '../kernel/errors.ts';
import { openStore } from '../store/open.ts';
import type { Store } from '../store/store.ts';
import { eachStore, postgresStore } from '../store/test-stores.ts';
import type { Holder, HolderKind, QuotaFigures } from './quota.ts';
import { columnsOf, defaultQuotas, freeQuota, holdersOf, limitsOf, openQuota, reserveQuota, usedOf } from './quota.ts';

const shape = { cores: 4, memoryMib: 1_024, diskGib: 10 };
const tenant: Holder = { kind: 'tenant', id: 'ten_1' };
const project: Holder = { kind: 'project', id: 'prj_1' };
const user: Holder = { kind: 'user', id: 'usr_1' };
const all = [tenant, project, user];
/** A hundred, who name their holders each in an order of their own. */
const takers = Array.from({ length: 100 }, (_, index) => {
  return [all, all.toReversed(), [project, user, tenant], [tenant, user]][index % 4] ?? all;
});

eachStore('a share is taken of tenant, project and user, and given back by each', async (t, store) => {
  await insertHolders(store);
  await store.transaction((tx) => reserveQuota(tx, all, shape));
  await store.transaction((tx) => reserveQuota(tx, [tenant, project], shape));
  await isUsed(t, store, { tenant: 2, project: 2, user: 1 });
  await store.transaction((tx) => freeQuota(tx, all, shape));
  await isUsed(t, store, { tenant: 1, project: 1, user: 0 });
});

eachStore('who is short of one measure takes nothing, and hears of whom and which', async (t, store) => {
  await insertHolders(store);
  await limit(store, user, { cores: 7, diskGib: 19 });
  await store.transaction((tx) => reserveQuota(tx, all, shape));
  await t.rejects(
    store.transaction((tx) => reserveQuota(tx, all, shape)),
    {
      code: 'quota.exceeded',
      message: 'This would exceed the quota of the user ann: cores 4 more than 4 of 7, diskGib 10 more than 10 of 19.',
      details: {
        holder: { kind: 'user', id: 'usr_1', name: 'ann' },
        short: [
          { measure: 'cores', asked: 4, used: 4, limit: 7 },
          { measure: 'diskGib', asked: 10, used: 10, limit: 19 },
        ],
      },
    },
  );
  await isUsed(t, store, { tenant: 1, project: 1, user: 1 });
  await limit(store, user, { cores: 8, diskGib: 20 });
  await store.transaction((tx) => reserveQuota(tx, all, shape));
  await isUsed(t, store, { tenant: 2, project: 2, user: 2 });
});

eachStore('a limit below what is used takes nothing away, and refuses more until there is room', async (t, store) => {
  await insertHolders(store);
  for (let taken = 0; taken < 3; taken += 1) await store.transaction((tx) => reserveQuota(tx, all, shape));
  await limit(store, project, { servers: 2 });
  await t.rejects(
    store.transaction((tx) => reserveQuota(tx, all, shape)),
    {
      code: 'quota.exceeded',
      details: { holder: { kind: 'project' }, short: [{ measure: 'servers', asked: 1, used: 3, limit: 2 }] },
    },
  );
  await isUsed(t, store, { tenant: 3, project: 3, user: 3 });
  await store.transaction((tx) => freeQuota(tx, all, shape));
  await t.rejects(
    store.transaction((tx) => reserveQuota(tx, all, shape)),
    { code: 'quota.exceeded' },
  );
  await store.transaction((tx) => freeQuota(tx, all, shape));
  await store.transaction((tx) => reserveQuota(tx, all, shape));
  await isUsed(t, store, { tenant: 2, project: 2, user: 2 });
});

eachStore('quotas are exact when a hundred take at once, and when others take what is given back', async (t, store) => {
  await insertHolders(store);
  await limit(store, tenant, { servers: 37 });
  const answers = await Promise.allSettled(
    takers.map((who) => store.transaction((tx) => reserveQuota(tx, who, shape))),
  );
  t.equal(answers.filter(({ status }) => status === 'fulfilled').length, 37);
  t.ok(answers.every((answer) => answer.status === 'fulfilled' || hasCode(answer.reason, 'quota.exceeded')));
  const served = takers.filter((_, index) => answers[index]?.status === 'fulfilled');
  await isUsed(t, store, { tenant: 37, project: served.filter((who) => who.includes(project)).length, user: 37 });
  const free = served.map((who) => store.transaction((tx) => freeQuota(tx, who, shape)));
  const take = served.map(() => store.transaction((tx) => reserveQuota(tx, [user, tenant], shape)));
  const [taken] = await Promise.all([Promise.allSettled(take), ...free]);
  const again = taken.filter(({ status }) => status === 'fulfilled').length;
  await isUsed(t, store, { tenant: again, project: 0, user: again });
});

postgresStore('nobody waits in a circle, whatever order holders are named in', async (t, store, { clock, url }) => {
  await insertHolders(store);
  const lines: string[] = [];
  const log = pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) });
  const watched = await openStore({ url, clock, log });
  t.teardown(() => watched.close());
  await Promise.all(
    takers.map(async (who) => {
      await watched.transaction((tx) => reserveQuota(tx, who, shape));
      await watched.transaction((tx) => freeQuota(tx, who, shape));
    }),
  );
  t.same(
    lines.filter((line) => line.includes('lost a conflict')),
    [],
    'PostgreSQL had no deadlock to break',
  );
  await isUsed(t, watched, { tenant: 0, project: 0, user: 0 });
});

eachStore(
  'an operator holds no quota; a project without one was deleted; anybody else is a defect',
  async (t, store) => {
    await insertHolders(store);
    const operator: Holder = { kind: 'user', id: 'usr_0' };
    await store.transaction((tx) => reserveQuota(tx, [tenant, operator], shape));
    await isUsed(t, store, { tenant: 1, project: 0, user: 0 });
    for (const kind of ['tenant', 'project', 'user'] as const) {
      const nobody = store.transaction((tx) => reserveQuota(tx, [tenant, { kind, id: 'gone' }], shape));
      await t.rejects(nobody, { code: kind === 'project' ? 'state.conflict' : 'internal' }, kind);
    }
    await isUsed(t, store, { tenant: 1, project: 0, user: 0 });
    t.same(holdersOf({ tenant_id: 'ten_1', project_id: 'prj_1', user_id: 'usr_1' }), all);
    t.same(holdersOf({ tenant_id: 'ten_1', project_id: null, user_id: null }), [tenant]);
  },
);

/** A tenant with a project and a user, and an operator, who is nobody's. */
async function insertHolders(store: Store): Promise<void> {
  await store.transaction(async (tx) => {
    const at = { created_at: 0 };
    await tx
      .insertInto('tenants')
      .values({ id: 'ten_1', name: 'acme', ...at })
      .execute();
    await tx
      .insertInto('projects')
      .values({ id: 'prj_1', tenant_id: 'ten_1', name: 'web', ...at })
      .execute();
    const person = { email: null, disabled_at: null, ...at };
    await tx
      .insertInto('users')
      .values([
        { id: 'usr_0', tenant_id: null, name: 'op', role: 'operator', ...person },
        { id: 'usr_1', tenant_id: 'ten_1', name: 'ann', role: 'member', ...person },
      ])
      .execute();
    for (const holder of all) await openQuota(tx, { ...holder, tenantId: 'ten_1' });
  });
  const rows = await store.read.selectFrom('quotas').selectAll().execute();
  for (const row of rows)
    if (limitsOf(row).servers !== defaultQuotas.tenant.servers) throw new Error('not the default');
}

async function limit(store: Store, { kind, id }: Holder, limits: Partial<QuotaFigures>): Promise<void> {
  await store.transaction((tx) =>
    tx
      .updateTable('quotas')
      .set(columnsOf(limits))
      .where('holder_kind', '=', kind)
      .where('holder_id', '=', id)
      .execute(),
  );
}

/** So many servers of `shape` are in use by each. */
async function isUsed(t: Test, store: Store, expected: Readonly<Record<HolderKind, number>>): Promise<void> {
  const rows = await store.read.selectFrom('quotas').selectAll().execute();
  const used = Object.fromEntries(rows.map((row) => [row.holder_kind, usedOf(row)]));
  const figures = (servers: number) => ({
    servers,
    cores: 4 * servers,
    memoryMib: 1_024 * servers,
    diskGib: 10 * servers,
  });
  t.same(used, Object.fromEntries(Object.entries(expected).map(([kind, servers]) => [kind, figures(servers)])));
}
