import { sql } from 'kysely';
import { test } from 'tap';

import { silentLog } from '../kernel/log.ts';
import type { Log } from '../kernel/log.ts';
import { ManualClock } from '../kernel/manual-clock.ts';
import { openStore } from './open.ts';
import type { Store, Tx } from './store.ts';
import { eachStore, sqliteUrl } from './test-stores.ts';
import { isUniqueViolation } from './violations.ts';

eachStore('what a transaction wrote can be read after it', async (t, store) => {
  const result = await store.transaction(async (tx) => {
    await addTenant(tx, 't1');
    return 'done';
  });
  t.equal(result, 'done');
  t.same(await store.read.selectFrom('tenants').selectAll().execute(), [{ id: 't1', name: 't1', created_at: LATER }]);
});

eachStore('effects run once, in order, after the commit', async (t, store) => {
  const order: string[] = [];
  const committed = () => store.read.selectFrom('tenants').select('id').execute();
  const seen: Promise<unknown>[] = [];
  await store.transaction(async (tx) => {
    tx.afterCommit(() => {
      order.push('first');
      seen.push(committed());
    });
    tx.afterCommit(() => order.push('second'));
    await addTenant(tx, 't1');
    order.push('closure');
  });
  t.same(order, ['closure', 'first', 'second']);
  t.same(await Promise.all(seen), [[{ id: 't1' }]], 'an effect sees what was committed');
});

eachStore('what is to be written last is written behind all else, or nothing is', async (t, store) => {
  const order: string[] = [];
  const adding = (fails: boolean) => async (tx: Tx) => {
    tx.afterCommit(() => order.push('effect'));
    tx.beforeCommit(async () => {
      order.push('last');
      await addTenant(tx, 't2');
      if (fails) throw new Error('not written');
    });
    await addTenant(tx, 't1');
    order.push('closure');
  };
  await t.rejects(store.transaction(adding(true)), { message: 'not written' });
  t.same(order.splice(0), ['closure', 'last']);
  t.same(await store.read.selectFrom('tenants').select('id').execute(), []);
  await store.transaction(adding(false));
  t.same(order, ['closure', 'last', 'effect']);
  t.same(await store.read.selectFrom('tenants').select('id').orderBy('id').execute(), [{ id: 't1' }, { id: 't2' }]);
});

eachStore('what is deferred is written with the commit, in its order, or the transaction fails', async (t, store) => {
  const tenant = (id: string) => ({ id, name: id, created_at: 0 });
  const project = (tenantId: string) => ({ id: `p of ${tenantId}`, tenant_id: tenantId, name: 'p', created_at: 0 });
  const writing = (ids: readonly string[], seen: string[] = []) =>
    store.transaction(async (tx) => {
      tx.beforeCommit(async () =>
        tx.defer(
          tx
            .updateTable('tenants')
            .set({ name: `last of ${ids[0]!}` })
            .where('id', '=', ids[0]!),
        ),
      );
      for (const id of ids) {
        tx.defer(tx.insertInto('tenants').values(tenant(id)));
        tx.defer(tx.insertInto('projects').values(project(id)));
      }
      const rows = await tx.selectFrom('tenants').select('id').orderBy('id').execute();
      seen.push(...rows.map(({ id }) => id));
    });
  // Often enough to be prepared where that is done.
  for (let time = 0; time < 30; time += 1) {
    const [one, other] = [`${String(time)} a`, `${String(time)} b`];
    const seen: string[] = [];
    await writing([one, other], seen);
    t.notOk(seen.includes(one), 'not before the commit');
    t.match(
      await store.read.selectFrom('tenants').select('name').where('id', 'in', [one, other]).orderBy('id').execute(),
      [{ name: `last of ${one}` }, { name: other }],
    );
    const failing = writing([`${String(time)} c`, one]);
    t.ok(isUniqueViolation(await failing.catch((error: unknown) => error)), 'its error is the transaction’s');
    t.same(
      await store.read
        .selectFrom('tenants')
        .select('id')
        .where('id', '=', `${String(time)} c`)
        .execute(),
      [],
    );
  }
});

eachStore('a transaction that writes nothing but what is deferred is one as well', async (t, store) => {
  for (let time = 0; time < 30; time += 1) {
    await store.transaction(async (tx) => {
      tx.defer(tx.insertInto('tenants').values({ id: String(time), name: String(time), created_at: 0 }));
    });
    const failing = store.transaction(async (tx) => {
      tx.defer(tx.insertInto('tenants').values({ id: 'lost', name: 'lost', created_at: 0 }));
      tx.defer(tx.insertInto('tenants').values({ id: String(time), name: 'again', created_at: 0 }));
    });
    t.ok(isUniqueViolation(await failing.catch((error: unknown) => error)));
    const thrown = store.transaction(async (tx) => {
      tx.defer(tx.insertInto('tenants').values({ id: 'lost', name: 'lost', created_at: 0 }));
      throw new Error('no');
    });
    await t.rejects(thrown, { message: 'no' });
  }
  const rows = await store.read.selectFrom('tenants').select('id').execute();
  t.equal(rows.length, 30);
  t.notOk(rows.some(({ id }) => id === 'lost'));
});

eachStore('a closure that throws leaves no row and runs no effect', async (t, store) => {
  const order: string[] = [];
  const failing = store.transaction(async (tx) => {
    tx.afterCommit(() => order.push('effect'));
    await addTenant(tx, 't1');
    throw new Error('changed my mind');
  });
  await t.rejects(failing, { message: 'changed my mind' });
  t.same(order, []);
  t.same(await store.read.selectFrom('tenants').select('id').execute(), []);
});

test('an effect that throws is logged and fails neither the transaction nor the others', async (t) => {
  const order: string[] = [];
  const logged: object[] = [];
  const unused = () => undefined;
  const error = (fields: object) => void logged.push(fields);
  const log: Log = { debug: unused, info: unused, warn: unused, error, child: () => log };
  const store = await openStore({ url: sqliteUrl(t), clock: new ManualClock(), log });
  t.teardown(() => store.close());
  const result = await store.transaction(async (tx) => {
    tx.afterCommit(() => {
      throw new Error('nobody listens');
    });
    tx.afterCommit(() => order.push('second'));
    await addTenant(tx, 't1');
    return 'done';
  });
  t.equal(result, 'done');
  t.same(order, ['second']);
  t.match(logged, [{ err: { message: 'nobody listens' } }]);
});

eachStore('of 20 who claim one row at once exactly one wins', async (t, store) => {
  await store.transaction(async (tx) => {
    await tx.insertInto('cursors').values({ consumer: 'free', position: 0 }).execute();
  });
  const claim = (number: number) =>
    store.transaction(async (tx) => {
      const update = tx.updateTable('cursors').set({ position: number }).where('position', '=', 0);
      return (await update.executeTakeFirst()).numUpdatedRows;
    });
  const claims = await Promise.all(Array.from({ length: 20 }, (_, index) => claim(index + 1)));
  t.same(claims.filter((rows) => rows === 1n).length, 1);
  t.same(claims.filter((rows) => rows === 0n).length, 19);
  const { position } = await store.read.selectFrom('cursors').select('position').executeTakeFirstOrThrow();
  t.equal(position, claims.indexOf(1n) + 1, 'and the row is the one of the winner');
});

eachStore('of 20 who insert one key at once exactly one wins, and the others learn why', async (t, store) => {
  const insert = (_: unknown, index: number) => store.transaction(async (tx) => addTenant(tx, 't1', `name ${index}`));
  const results = await Promise.allSettled(Array.from({ length: 20 }, insert));
  t.equal(results.filter(({ status }) => status === 'fulfilled').length, 1);
  const errors = results.flatMap((result) => (result.status === 'rejected' ? [result.reason as unknown] : []));
  t.ok(errors.every((error) => isUniqueViolation(error, 'tenants(id)')));
});

eachStore('a unique violation tells its table and columns', async (t, store) => {
  await store.transaction(async (tx) => {
    await addTenant(tx, 't1');
    await tx.insertInto('regions').values({ id: 'r1', name: 'north' }).execute();
    await addRack(tx, 'a', 'r1');
  });
  const twoColumns = await failure(store, (tx) => addRack(tx, 'b', 'r1'));
  t.equal(isUniqueViolation(twoColumns), true);
  t.equal(isUniqueViolation(twoColumns, 'racks'), true);
  t.equal(isUniqueViolation(twoColumns, 'racks(region_id, name)'), true);
  t.equal(isUniqueViolation(twoColumns, 'racks(name)'), false);
  t.equal(isUniqueViolation(twoColumns, 'regions'), false);
  const primaryKey = await failure(store, (tx) => addTenant(tx, 't1', 'another name'));
  t.equal(isUniqueViolation(primaryKey, 'tenants(id)'), true);
  t.equal(isUniqueViolation(primaryKey, 'tenants(name)'), false);
});

eachStore('CHECK and foreign key violations surface as themselves', async (t, store) => {
  await store.transaction(async (tx) => addTenant(tx, 't1'));
  const check = await failure(store, (tx) =>
    tx
      .insertInto('quotas')
      .values({ ...quota, used_servers: -1 })
      .execute(),
  );
  t.match(check, { code: store.dialect === 'sqlite' ? 'SQLITE_CONSTRAINT_CHECK' : '23514' });
  t.equal(isUniqueViolation(check), false);
  const foreignKey = await failure(store, (tx) => addRack(tx, 'a', 'nowhere'));
  t.match(foreignKey, { code: store.dialect === 'sqlite' ? 'SQLITE_CONSTRAINT_FOREIGNKEY' : '23503' });
  t.equal(isUniqueViolation(foreignKey), false);
});

eachStore('a failed statement ends its transaction, also when its error was caught', async (t, store) => {
  await store.transaction(async (tx) => addTenant(tx, 't1'));
  const swallowed = await failure(store, async (tx) => {
    await addTenant(tx, 't2');
    await addTenant(tx, 't1', 'another name').catch(() => undefined);
  });
  t.equal(isUniqueViolation(swallowed, 'tenants(id)'), true, 'it rejects with the error of that statement');
  t.same(await store.read.selectFrom('tenants').select('id').execute(), [{ id: 't1' }]);
  await store.transaction(async (tx) => addTenant(tx, 't3'));
  t.pass('and the next transaction is not bothered');
});

eachStore('a read during an open write transaction does not wait and sees what was committed', async (t, store) => {
  const order: string[] = [];
  await store.transaction(async (tx) => {
    await addTenant(tx, 't1');
    t.same(await store.read.selectFrom('tenants').select('id').execute(), []);
    order.push('read');
    tx.afterCommit(() => order.push('committed'));
  });
  t.same(order, ['read', 'committed']);
});

eachStore('bigint columns, counts and sums are numbers', async (t, store) => {
  const position = 2 ** 45;
  await store.transaction(async (tx) => {
    await tx
      .insertInto('cursors')
      .values([
        { consumer: 'one', position },
        { consumer: 'two', position: 1 },
      ])
      .execute();
  });
  const numbers = await store.read
    .selectFrom('cursors')
    .select(({ fn }) => [
      fn.countAll<number>().as('count'),
      fn.sum<number>('position').as('sum'),
      fn.max('position').as('max'),
    ])
    .executeTakeFirst();
  t.strictSame(numbers, { count: 2, sum: position + 1, max: position });
});

eachStore('a transaction inside a transaction is refused instead of waiting for itself', async (t, store) => {
  const nested = store.transaction(async () => store.transaction(async (tx) => addTenant(tx, 't1')));
  await t.rejects(nested, { code: 'internal' });
  const chained: Promise<unknown>[] = [];
  await store.transaction(async (tx) => {
    tx.afterCommit(() => chained.push(store.transaction(async (next) => addTenant(next, 't2'))));
  });
  await Promise.all(chained);
  t.same(await store.read.selectFrom('tenants').select('id').execute(), [{ id: 't2' }], 'an effect may start one');
});

eachStore('closing waits for the transactions that run, and refuses those that come later', async (t, store) => {
  const order: string[] = [];
  const running = store.transaction(async (tx) => {
    await addTenant(tx, 't1');
    tx.afterCommit(() => order.push('committed'));
  });
  const closing = store.close().then(() => order.push('closed'));
  await t.rejects(
    store.transaction(async (tx) => addTenant(tx, 't2')),
    { code: 'store.unavailable' },
  );
  await Promise.all([running, closing]);
  t.same(order, ['committed', 'closed']);
});

eachStore('a tool reads beside the daemon and cannot write', async (t, store, { clock, url }) => {
  await store.transaction(async (tx) => addTenant(tx, 't1'));
  const tool = await openStore({ url, clock, log: silentLog, mode: 'read' });
  t.teardown(() => tool.close());
  t.same(await tool.read.selectFrom('tenants').select('id').execute(), [{ id: 't1' }]);
  await t.rejects(
    tool.transaction(async (tx) => addTenant(tx, 't2')),
    { code: 'internal' },
  );
});

eachStore('a schema newer than the program is refused, by writers and readers', async (t, store, { clock, url }) => {
  await store.transaction(async (tx) => {
    await sql`insert into schema_migrations (number, name, applied_at) values (999, 'tomorrow', 0)`.execute(tx);
  });
  await store.close();
  await t.rejects(openStore({ url, clock, log: silentLog }), { code: 'store.newer-schema' });
  await t.rejects(openStore({ url, clock, log: silentLog, mode: 'read' }), { code: 'store.newer-schema' });
});

eachStore('a schema older than the program is refused by readers', async (t, store, { clock, url }) => {
  await store.transaction(async (tx) => {
    await sql`delete from schema_migrations`.execute(tx);
  });
  await t.rejects(openStore({ url, clock, log: silentLog, mode: 'read' }), { code: 'store.older-schema' });
});

const LATER = Date.UTC(2026, 0, 1); // beyond 32 bits

const quota = {
  holder_kind: 'tenant' as const,
  holder_id: 't1',
  tenant_id: 't1',
  max_servers: 1,
  max_cores: 1,
  max_memory_mib: 1,
  max_disk_gib: 1,
  used_servers: 0,
  used_cores: 0,
  used_memory_mib: 0,
  used_disk_gib: 0,
};

async function addTenant(tx: Tx, id: string, name = id): Promise<void> {
  await tx.insertInto('tenants').values({ id, name, created_at: LATER }).execute();
}

async function addRack(tx: Tx, id: string, regionId: string): Promise<void> {
  await tx.insertInto('racks').values({ id, region_id: regionId, name: 'rack' }).execute();
}

async function failure(store: Store, work: (tx: Tx) => Promise<unknown>): Promise<unknown> {
  return store.transaction(work).then(
    () => undefined,
    (error: unknown) => error,
  );
}
