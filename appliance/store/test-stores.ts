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
  /** The URL of a fresh database with the current schema; dropped when the test ends. */
  create(t: Test): Promise<string>;
  /** The URL of a fresh database without any table. */
  createEmpty(t: Test): Promise<string>;
}

// One server and one migrated template for all tests of this process: cloning a template is what makes a test cheap.
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
  const dropping: Promise<unknown>[] = [];
  let count = 0;

  const drop = (name: string) => dropping.push(admin.query(`drop database ${name} with (force)`));
  const create = async (template: string) => {
    const name = `${prefix}_${(count += 1)}`;
    await admin.query(`create database ${name} template ${template}`);
    return name;
  };
  const createFor = async (t: Test, template: string) => {
    const name = await create(template);
    t.teardown(() => void drop(name)); // while the next test runs
    return databaseUrl(server.url, name);
  };

  const template = await create('template0');
  tap.teardown(async () => {
    drop(template);
    await Promise.all(dropping);
    await admin.end();
    await server.stop();
  });
  const migrated = await openStore({
    url: databaseUrl(server.url, template),
    clock: new ManualClock(),
    log: silentLog,
  });
  await migrated.close();
  return { create: (t) => createFor(t, template), createEmpty: (t) => createFor(t, 'template0') };
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
