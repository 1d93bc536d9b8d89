import { sql } from 'kysely';

import type { RackstartError } from '../kernel/errors.ts';
import { silentLog } from '../kernel/log.ts';
import { ManualClock } from '../kernel/manual-clock.ts';
import { openStore } from './open.ts';
import type { Tx } from './store.ts';
import { postgresStore } from './test-stores.ts';

postgresStore('the loser of a deadlock runs again, and its lost try leaves no effect', async (t, store) => {
  await store.transaction(async (tx) => {
    const rows = ['a', 'b'].map((consumer) => ({ consumer, position: 0 }));
    await tx.insertInto('cursors').values(rows).execute();
  });
  const both = meeting(2);
  let tries = 0;
  const effects: string[] = [];
  // Each looks for deadlocks when it has waited so long, and is the loser if it finds one: only one shall.
  const crosswise = (first: string, second: string, patience: string) =>
    store.transaction(async (tx) => {
      tries += 1;
      tx.afterCommit(() => effects.push(first));
      await sql`set local deadlock_timeout = ${sql.lit(patience)}`.execute(tx);
      await increment(tx, first);
      await both();
      await increment(tx, second);
    });
  await Promise.all([crosswise('a', 'b', '10ms'), crosswise('b', 'a', '1min')]);
  t.equal(tries, 3);
  t.same(effects.sort(), ['a', 'b']);
  const positions = await store.read.selectFrom('cursors').select('position').execute();
  t.same(positions, [{ position: 2 }, { position: 2 }]);
});

postgresStore('a transaction that never stops losing ends as unavailable', async (t, store) => {
  let tries = 0;
  const losing = store.transaction(async (tx) => {
    tries += 1;
    await sql`do $$ begin raise exception 'again' using errcode = '40001'; end $$`.execute(tx);
  });
  await t.rejects(losing, { code: 'store.unavailable', cause: { code: '40001' } });
  t.ok(tries > 1);
});

postgresStore(
  'a connection lost in a transaction leaves nothing half done, and the next one works',
  async (t, store) => {
    const effects: string[] = [];
    const cutOff = store.transaction(async (tx) => {
      tx.afterCommit(() => effects.push('effect'));
      await insert(tx, 'lost');
      await sql`select pg_terminate_backend(pg_backend_pid())`.execute(tx);
    });
    await t.rejects(cutOff, { code: 'store.unavailable', details: { commit: undefined } });
    await store.transaction((tx) => insert(tx, 'kept'));
    t.same(await store.read.selectFrom('cursors').select('consumer').execute(), [{ consumer: 'kept' }]);
    t.same(effects, []);
  },
);

postgresStore(
  'a transaction is begun with its first statement, prepared or not, and ended with its last',
  async (t, store) => {
    // Those that come again are prepared at some time.
    for (let time = 0; time < 30; time += 1) {
      const failing = store.transaction(async (tx) => {
        await insert(tx, 'first');
        throw new Error('no');
      });
      await t.rejects(failing, { message: 'no' });
      await store.transaction((tx) => insert(tx, `kept ${String(time)}`));
      await store.transaction(() => Promise.resolve());
    }
    const kept = await store.read.selectFrom('cursors').select('consumer').execute();
    t.equal(kept.length, 30);
    t.notOk(kept.some(({ consumer }) => consumer === 'first'));
  },
);

postgresStore('a first statement that fails is the transaction that failed', async (t, store) => {
  await store.transaction((tx) => insert(tx, 'taken'));
  for (let time = 0; time < 30; time += 1) {
    await t.rejects(
      store.transaction((tx) => insert(tx, 'taken')),
      { code: '23505' },
    );
    const cut = store.transaction((tx) => sql`select pg_terminate_backend(pg_backend_pid())`.execute(tx));
    await t.rejects(cut, { code: 'store.unavailable', details: { commit: undefined } });
    const caught = store.transaction(async (tx) => {
      await insert(tx, 'taken').catch(() => undefined);
      await insert(tx, 'more').catch(() => undefined);
    });
    await t.rejects(caught, { code: '23505' });
  }
  t.same(await store.read.selectFrom('cursors').select('consumer').execute(), [{ consumer: 'taken' }]);
});

postgresStore('a connection lost at the commit says that its outcome is not known', async (t, store) => {
  const cutOff = store.transaction(async (tx) => {
    await insert(tx, 'lost');
    const { rows } = await sql<{ pid: number }>`select pg_backend_pid() as pid`.execute(tx);
    await store.read
      .selectFrom(sql`pg_terminate_backend(${rows[0]?.pid})`.as('t'))
      .selectAll()
      .execute();
  });
  await t.rejects(cutOff, { code: 'store.unavailable', details: { commit: 'unknown' } });
});

postgresStore('a statement that outlives its limit is unavailable, and its connection works on', async (t, store) => {
  const slow = store.transaction(async (tx) => {
    await sql`set local statement_timeout = '1ms'`.execute(tx);
    await sql`select pg_sleep(60)`.execute(tx);
  });
  await t.rejects(slow, { code: 'store.unavailable', cause: { code: '57014' } });
  await store.transaction((tx) => insert(tx, 'kept'));
});

postgresStore('reads find a connection while every writer waits', async (t, store) => {
  await store.transaction((tx) => insert(tx, 'a'));
  const held = Promise.withResolvers<undefined>();
  const released = Promise.withResolvers<undefined>();
  const holder = store.transaction(async (tx) => {
    await increment(tx, 'a');
    held.resolve(undefined);
    await released.promise;
  });
  await held.promise;
  const writers = Array.from({ length: 20 }, () => store.transaction((tx) => increment(tx, 'a')));
  t.same(await store.read.selectFrom('cursors').select('position').execute(), [{ position: 0 }]);
  released.resolve(undefined);
  await Promise.all([holder, ...writers]);
  t.same(await store.read.selectFrom('cursors').select('position').execute(), [{ position: 21 }]);
});

postgresStore('who stands still in a transaction loses it, and who waits for its rows gets them', async (t, store) => {
  await store.transaction((tx) => insert(tx, 'a'));
  const held = Promise.withResolvers<undefined>();
  const released = Promise.withResolvers<undefined>();
  const still = store.transaction(async (tx) => {
    await increment(tx, 'a');
    held.resolve(undefined);
    await released.promise;
    await increment(tx, 'a');
  });
  const fate = t.rejects(still, { code: 'store.unavailable' });
  await held.promise;
  await store.transaction((tx) => increment(tx, 'a'));
  released.resolve(undefined);
  await fate;
  t.same(await store.read.selectFrom('cursors').select('position').execute(), [{ position: 1 }]);
});

postgresStore('a table that changes under prepared statements costs a connection one answer', async (t, store) => {
  const write = (tx: Tx, statement: string) => sql.raw(statement).execute(tx);
  const changing = sql<{ one: number; two?: number | null }>`changing`.as('changing');
  const read = () => store.read.selectFrom(changing).selectAll().execute();
  // The next test has the same database.
  t.teardown(() => store.transaction((tx) => write(tx, 'drop table changing')));
  await store.transaction((tx) => write(tx, 'create table changing as select 1 as one'));
  for (let time = 0; time < 20; time += 1) await read();
  await store.transaction((tx) => write(tx, 'alter table changing add column two integer'));
  await t.rejects(read(), { code: 'store.unavailable', cause: { code: '0A000' } });
  t.same(await read(), [{ one: 1, two: null }]);
});

postgresStore('what a server does not support is a mistake of the program', async (t, store) => {
  const wrong = sql`select count(*) from cursors for update`;
  await t.rejects(
    store.transaction((tx) => wrong.execute(tx)),
    { name: 'error', code: '0A000' },
  );
});

postgresStore('a wrong database is a mistake, an absent server is not', async (t, _store, { url, clock }) => {
  const absent = new URL(url);
  absent.pathname = '/rs_no_such_database';
  await t.rejects(openStore({ url: absent.href, clock, log: silentLog }), { code: 'config.invalid' });
  const nobody = openStore({ url: 'postgres://rs:hush@127.0.0.1:1/rs', clock: new ManualClock(), log: silentLog });
  const error: unknown = await nobody.catch((reason: unknown) => reason);
  t.match(error, { code: 'store.unavailable' });
  t.notMatch(String((error as RackstartError).stack), /hush/);
});

async function insert(tx: Tx, consumer: string): Promise<void> {
  await tx.insertInto('cursors').values({ consumer, position: 0 }).execute();
}

async function increment(tx: Tx, consumer: string): Promise<void> {
  await tx
    .updateTable('cursors')
    .set(({ eb }) => ({ position: eb('position', '+', 1) }))
    .where('consumer', '=', consumer)
    .execute();
}

/** Resolves for everybody once `count` have come; those who come later pass. */
function meeting(count: number): () => Promise<void> {
  const all = Promise.withResolvers<undefined>();
  let came = 0;
  return async () => {
    came += 1;
    if (came >= count) all.resolve(undefined);
    await all.promise;
  };
}
