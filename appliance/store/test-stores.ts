import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import tap from 'tap';
import type { Test } from 'tap';

import { silentLog } from '../kernel/log.ts';
import { ManualClock } from '../kernel/manual-clock.ts';
import { openStore } from './open.ts';
import type { Store } from './store.ts';

export interface StoreTestContext {
  clock: ManualClock;
  /** What `openStore` was given. */
  url: string;
}

export type StoreTest = (t: Test, store: Store, context: StoreTestContext) => Promise<void>;

/**
 * Registers the test once per database, each with a fresh store that is closed and removed at the end.
 *
 * PostgreSQL is the server of `RACKSTART_TEST_POSTGRES` (a postgres:// URL whose user may create databases), or one
 * started for this process; where none can run its variant is skipped.
 */
export function eachStore(name: string, work: StoreTest): void {
  sqliteStore(`${name} (sqlite)`, work);
  postgresStore(`${name} (postgres)`, work);
}

/** For what one database alone does. */
export function sqliteStore(name: string, work: StoreTest): void {
  void tap.test(name, async (t) => {
    await withStore(t, sqliteUrl(t), work);
  });
}

export function postgresStore(name: string, work: StoreTest): void {
  void tap.test(name, async (t) => {
    const databases = await testDatabases();
    if (typeof databases === 'string') t.plan(0, databases);
    else await withStore(t, await databases.create(t), work);
  });
}

/** The URL of a SQLite file that does not exist yet, in a directory that is removed when the test ends. */
export function sqliteUrl(t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'rs-store-'));
  t.teardown(() => {
    rmSync(directory, { recursive: true });
  });
  return `sqlite:${join(directory, 'rackstart.db')}`;
}

async function withStore(t: Test, url: string, work: StoreTest): Promise<void> {
  const clock = new ManualClock();
  const store = await openStore({ url, clock, log: silentLog });
  t.teardown(() => store.close());
  await work(t, store, { clock, url });
}

interface TestDatabases {
  /** The URL of a database with the current schema and no rows but those of the migrations. A test may change its rows. */
  create(t: Test): Promise<string>;
  /** The URL of a database of the test's own, without any table. */
  createEmpty(): Promise<string>;
}

// One server for all tests of this process.
let started: Promise<TestDatabases | string> | undefined;

/** Fresh PostgreSQL databases, or one line on why there are none here. */
export function testDatabases(): Promise<TestDatabases | string> {
  started ??= startDatabases();
  return started;
}

async function startDatabases(): Promise<TestDatabases | string> {
  const server = await findServer();
  if (typeof server === 'string') return server;
  const prefix = `rs_${process.pid}_${randomBytes(4).toString('hex')}`;
  const admin = new pg.Pool({ connectionString: server.url, max: 2 });
  admin.on('error', () => undefined); // the server may be quicker to end than the connection
  const made: string[] = [];
  const free: TestDatabase[] = [];

  const create = async () => {
    const name = `${prefix}_${made.length}`;
    made.push(name);
    await admin.query(`create database ${name}`);
    return databaseUrl(server.url, name);
  };
  tap.teardown(async () => {
    for (const name of made) await admin.query(`drop database ${name} with (force)`);
    await admin.end();
    await server.stop();
  });
  return {
    createEmpty: create,
    async create(t) {
      // A new database is some 300 new files (0.5 s on a busy disk); emptying one takes 10 ms.
      const database = free.pop() ?? (await migrated(await create()));
      t.teardown(async () => {
        await database.reset();
        free.push(database);
      });
      return database.url;
    },
  };
}

interface TestDatabase {
  url: string;
  /** Back to the rows that the migrations made. */
  reset(): Promise<void>;
}

async function migrated(url: string): Promise<TestDatabase> {
  const store = await openStore({ url, clock: new ManualClock(), log: silentLog });
  await store.close();
  const { tables, references, rows } = await withClient(url, async (client) => {
    const found = await client.query<{ relname: string }>(
      "select relname from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace order by oid",
    );
    const names = found.rows.map(({ relname }) => relname);
    const kept: { table: string; json: string }[] = [];
    for (const table of names) {
      const { rows } = await client.query<{ json: string | null }>(`select json_agg(t)::text as json from ${table} t`);
      const json = rows[0]?.json;
      if (json) kept.push({ table, json });
    }
    const referring = await client.query<Reference>(
      "select conrelid::regclass::text as from, confrelid::regclass::text as to from pg_constraint where contype = 'f'",
    );
    return { tables: names, references: referring.rows, rows: kept };
  });
  const empty = referrersFirst(tables, references).map((table) => `delete from ${table}`);
  return {
    url,
    reset: () =>
      withClient(url, async (client) => {
        await client.query(empty.join(';'));
        for (const { table, json } of rows) {
          await client.query(`insert into ${table} select * from json_populate_recordset(null::${table}, $1)`, [json]);
        }
      }),
  };
}

interface Reference {
  readonly from: string;
  readonly to: string;
}

/** So that no row is deleted before those that refer to it. */
function referrersFirst(tables: readonly string[], references: readonly Reference[]): string[] {
  if (tables.length === 0) return [];
  const isReferredTo = (table: string) =>
    references.some(({ from, to }) => to === table && from !== table && tables.includes(from));
  const free = tables.filter((table) => !isReferredTo(table));
  if (free.length === 0) throw new Error(`These tables refer to each other in a circle: ${tables.join(', ')}`);
  const rest = tables.filter(isReferredTo);
  return [...free, ...referrersFirst(rest, references)];
}

async function withClient<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

function databaseUrl(server: string, name: string): string {
  const url = new URL(server);
  url.pathname = `/${name}`;
  return url.href;
}

interface Server {
  url: string;
  stop(): Promise<void>;
}

// Imported late: most of those who import this file have a server already.
async function findServer(): Promise<Server | string> {
  const url = process.env['RACKSTART_TEST_POSTGRES'];
  if (url !== undefined) return { url, stop: async () => undefined };
  const { postgresMissing, startPostgres } = await import('../../lab/test/postgres.ts');
  return postgresMissing() ?? (await startPostgres());
}
