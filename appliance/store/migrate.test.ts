import { sql } from 'kysely';
import type { Kysely } from 'kysely';
import type { Test } from 'tap';
import { test } from 'tap';

import { silentLog } from '../kernel/log.ts';
import { ManualClock } from '../kernel/manual-clock.ts';
import type { Engine } from './engine.ts';
import { migrate, migrations } from './migrate.ts';
import type { Migration } from './migrate.ts';
import { openStore } from './open.ts';
import { openPostgres } from './postgres.ts';
import { openSqlite } from './sqlite.ts';
import { sqliteUrl, testDatabases } from './test-stores.ts';

const AT = Date.UTC(2026, 0, 1);

test('migrations are numbered from 1 without gaps', (t) => {
  t.same(
    migrations.map(({ number }) => number),
    migrations.map((_, index) => index + 1),
  );
  t.end();
});

eachEngine('each migration runs once, in order, and is recorded with its name and time', async (t, engine) => {
  const ran: number[] = [];
  const step = (number: number): Migration => ({
    number,
    name: `step-${number}`,
    up: async (db) => {
      ran.push(number);
      await sql.raw(`create table made_by_${number} (id text)`).execute(db);
    },
  });
  await run(engine, [step(1)]);
  await run(engine, [step(1), step(2), step(3)]);
  await run(engine, [step(1), step(2), step(3)]);
  t.same(ran, [1, 2, 3]);
  t.same(
    await records(engine),
    [1, 2, 3].map((number) => ({ number, name: `step-${number}`, applied_at: AT })),
  );
});

eachEngine('a migration that fails leaves nothing of itself and keeps those before it', async (t, engine) => {
  const good: Migration = { number: 1, name: 'good', up: (db) => createTable(db, 'good') };
  const bad: Migration = {
    number: 2,
    name: 'bad',
    up: async (db) => {
      await createTable(db, 'half');
      throw new Error('out of ideas');
    },
  };
  await t.rejects(run(engine, [good, bad]), { message: 'out of ideas' });
  t.match(await records(engine), [{ number: 1 }]);
  const tables = (await engine.reader.introspection.getTables()).map(({ name }) => name);
  t.same(tables.sort(), ['good', 'schema_migrations']);
  await run(engine, [good, { ...bad, up: (db) => createTable(db, 'half') }]);
  t.match(await records(engine), [{ number: 1 }, { number: 2 }]);
});

test('daemons that start together on one PostgreSQL database do not collide', async (t) => {
  const databases = await testDatabases();
  if (typeof databases === 'string') {
    t.plan(0, databases);
    return;
  }
  const url = await databases.createEmpty();
  const opening = [1, 2, 3].map(() => openStore({ url, clock: new ManualClock(), log: silentLog }));
  for (const store of await Promise.all(opening)) await store.close();
  t.pass('all three opened');
});

async function run({ writer, lockSchema }: Engine, steps: readonly Migration[]): Promise<void> {
  await migrate(writer!, { lockSchema, clock: new ManualClock(AT), log: silentLog }, steps);
}

async function records({ reader }: Engine): Promise<unknown[]> {
  return (await sql`select number, name, applied_at from schema_migrations order by number`.execute(reader)).rows;
}

async function createTable(db: Kysely<unknown>, name: string): Promise<void> {
  await db.schema.createTable(name).addColumn('id', 'text').execute();
}

function eachEngine(name: string, work: (t: Test, engine: Engine) => Promise<void>): void {
  void test(`${name} (sqlite)`, async (t) => {
    const engine = openSqlite(sqliteUrl(t).slice('sqlite:'.length), 'write');
    t.teardown(() => engine.close());
    await work(t, engine);
  });
  void test(`${name} (postgres)`, async (t) => {
    const databases = await testDatabases();
    if (typeof databases === 'string') {
      t.plan(0, databases);
      return;
    }
    const url = await databases.createEmpty();
    const engine = await openPostgres({ url, password: undefined }, 'write', silentLog);
    t.teardown(() => engine.close());
    await work(t, engine);
  });
}
