import { readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { sql } from 'kysely';
import { test } from 'tap';
import type { Test } from 'tap';

import { silentLog } from '../kernel/log.ts';
import { backup, restore } from './backup.ts';
import { openStore } from './open.ts';
import type { Store } from './store.ts';
import { eachStore, sqliteStore, sqliteUrl, testDatabases } from './test-stores.ts';

eachStore('what was backed up while the daemon ran is what is restored', async (t, store, { clock, url }) => {
  await fill(store);
  const file = backupFile(t);
  await store.transaction(async (tx) => {
    await tx.insertInto('regions').values({ id: 'r2', name: 'not committed' }).execute();
    await backup(url, file);
  });
  t.equal(statSync(file).mode & 0o077, 0);
  const emptyUrl = await emptyDatabase(t, store);
  await restore(emptyUrl, file);
  const restored = await openStore({ url: emptyUrl, clock, log: silentLog });
  t.teardown(() => restored.close());
  t.strictSame(await rows(restored), { ...(await rows(store)), regions: [{ id: 'r1', name: 'north' }] });
  await restored.transaction((tx) => tx.insertInto('regions').values({ id: 'r3', name: 'south' }).execute());
});

eachStore('a backup never overwrites, and a restore never mixes', async (t, store, { url }) => {
  const file = backupFile(t);
  await backup(url, file);
  const before = readFileSync(file);
  await t.rejects(backup(url, file), { code: 'state.conflict' });
  t.same(readFileSync(file), before);
  await t.rejects(restore(url, file), { code: store.dialect === 'sqlite' ? 'store.locked' : 'state.conflict' });
  await store.close();
  await t.rejects(restore(url, file), { code: 'state.conflict' });
});

eachStore('a file that is no backup of ours is refused, and the target stays empty', async (t, store, { url }) => {
  const emptyUrl = await emptyDatabase(t, store);
  const file = backupFile(t);
  await t.rejects(restore(emptyUrl, file), { code: 'config.invalid' });
  writeFileSync(file, 'Dear diary, '.repeat(1_000));
  await t.rejects(restore(emptyUrl, file), { code: 'config.invalid' });
  rmSync(file);
  await store.transaction((tx) => sql`alter table schema_migrations rename to something_else`.execute(tx));
  if (store.dialect === 'postgres') {
    await backup(url, file);
    await t.rejects(restore(emptyUrl, file), { code: 'config.invalid' });
    rmSync(file);
  } else {
    await t.rejects(backup(url, file), { code: 'config.invalid' });
  }
  await store.transaction(async (tx) => {
    await sql`alter table something_else rename to schema_migrations`.execute(tx);
  });
  await backup(url, file);
  await restore(emptyUrl, file);
});

eachStore('a backup from a newer program is refused', async (t, store, { url }) => {
  const file = backupFile(t);
  await store.transaction(async (tx) => {
    await sql`insert into schema_migrations (number, name, applied_at) values (999, 'tomorrow', 0)`.execute(tx);
  });
  const emptyUrl = await emptyDatabase(t, store);
  const moved = async () => {
    await backup(url, file);
    await restore(emptyUrl, file);
  };
  await t.rejects(moved(), { code: 'store.newer-schema' });
});

sqliteStore('a damaged backup is refused', async (t, store, { url }) => {
  await fill(store);
  const file = backupFile(t);
  await backup(url, file);
  const bytes = readFileSync(file);
  bytes.fill(0xff, 8_192, bytes.length - 4_096);
  writeFileSync(file, bytes);
  await t.rejects(restore(sqliteUrl(t), file), { code: 'config.invalid' });
});

test('the password of a database reaches pg_dump, and no list of processes', async (t) => {
  const directory = programs(t);
  const record = join(directory, 'record');
  const fake = `#!/bin/sh\necho "$PGPASSWORD" "$@" > ${record}\n`;
  writeFileSync(join(directory, 'pg_dump'), fake, { mode: 0o755 });
  const file = join(directory, 'target');
  await backup('postgres://rs:h%40sh@db.example:5433/rs?sslmode=require', file);
  const to = '--dbname=postgres://rs@db.example:5433/rs?sslmode=require';
  t.equal(
    readFileSync(record, 'utf8'),
    `h@sh --format=custom --no-owner --no-privileges --file=${file}.partial ${to}\n`,
  );
});

test('PostgreSQL’s tools are named when they are missing', async (t) => {
  const directory = programs(t);
  const file = join(directory, 'target');
  await t.rejects(backup('postgres://rs@db.example/rs', file), { code: 'host.missing', message: /pg_dump/ });
  t.same(readdirSync(directory), []);
  writeFileSync(file, 'an archive');
  await t.rejects(restore('postgres://rs@db.example/rs', file), { code: 'host.missing', message: /pg_restore/ });
});

/** A directory that is all there is to find programs in until the test ends. */
function programs(t: Test): string {
  const directory = dirname(backupFile(t));
  const before = process.env['PATH'] ?? '';
  process.env['PATH'] = directory;
  t.teardown(() => {
    process.env['PATH'] = before;
  });
  return directory;
}

async function fill(store: Store): Promise<void> {
  await store.transaction(async (tx) => {
    await tx
      .insertInto('tenants')
      .values({ id: 't1', name: 'ünï\n"c"', created_at: 2 ** 45 })
      .execute();
    await tx.insertInto('regions').values({ id: 'r1', name: 'north' }).execute();
    const racks = Array.from({ length: 500 }, (_, index) => ({
      id: `rack${index}`,
      region_id: 'r1',
      name: `${index}`,
    }));
    await tx.insertInto('racks').values(racks).execute();
  });
}

function backupFile(t: Test): string {
  return sqliteUrl(t).slice('sqlite:'.length).replace('.db', '.backup');
}

async function emptyDatabase(t: Test, store: Store): Promise<string> {
  if (store.dialect === 'sqlite') return sqliteUrl(t);
  const databases = await testDatabases();
  if (typeof databases === 'string') throw new Error(databases);
  return databases.createEmpty();
}

/** Every row of every table the two databases share. */
async function rows(store: Store): Promise<Record<string, unknown[]>> {
  const tables = ['tenants', 'regions', 'racks', 'event_positions'] as const;
  const entries = tables.map(
    async (table) => [table, await store.read.selectFrom(table).selectAll().execute()] as const,
  );
  return Object.fromEntries(await Promise.all(entries));
}
