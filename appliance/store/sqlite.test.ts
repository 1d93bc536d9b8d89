import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { statSync, symlinkSync, writeFileSync } from 'node:fs';
import SqliteFile from 'better-sqlite3';
import { sql } from 'kysely';
import { test } from 'tap';

import { SECOND } from '../kernel/clock.ts';
import { silentLog } from '../kernel/log.ts';
import { ManualClock } from '../kernel/manual-clock.ts';
import { openStore } from './open.ts';
import { sqliteStore, sqliteUrl } from './test-stores.ts';

const clock = new ManualClock();
const log = silentLog;

sqliteStore('a second daemon on one file is refused, by whichever name it comes', async (t, store, { url }) => {
  const path = url.slice('sqlite:'.length);
  symlinkSync(path, `${path}.alias`);
  for (const name of [url, `${url}.alias`]) {
    await t.rejects(openStore({ url: name, clock, log }), {
      code: 'store.locked',
      message: path,
      details: { file: path },
    });
  }
  await store.close();
  const next = await openStore({ url, clock, log });
  await next.close();
});

test('a daemon that was killed leaves its file to the next one', async (t) => {
  const url = sqliteUrl(t);
  const program = `
    import { openStore } from ${JSON.stringify(`${import.meta.dirname}/open.ts`)};
    import { systemClock } from ${JSON.stringify(`${import.meta.dirname}/../kernel/clock.ts`)};
    import { silentLog } from ${JSON.stringify(`${import.meta.dirname}/../kernel/log.ts`)};
    const store = await openStore({ url: ${JSON.stringify(url)}, clock: systemClock, log: silentLog });
    await store.transaction((tx) => tx.insertInto('cursors').values({ consumer: 'a', position: 7 }).execute());
    process.stdout.write('open');
    process.stdin.resume();`;
  const daemon = spawn(process.execPath, ['--input-type=module', '--eval', program], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.teardown(() => daemon.kill('SIGKILL'));
  const ended = once(daemon, 'exit');
  await once(daemon.stdout, 'data');
  await t.rejects(openStore({ url, clock, log }), { code: 'store.locked' });
  daemon.kill('SIGKILL');
  await ended;
  const next = await openStore({ url, clock, log });
  t.same(await next.read.selectFrom('cursors').select('position').execute(), [{ position: 7 }]);
  await next.close();
});

sqliteStore('a full disk changes nothing, and writing works again once there is room', async (t, store) => {
  const fill = async (pages: number) =>
    store.transaction(async (tx) => {
      await sql.raw(`pragma max_page_count = ${pages}`).execute(tx);
      await tx.insertInto('regions').values({ id: 'r1', name: 'north' }).execute();
      await tx
        .insertInto('cursors')
        .values({ consumer: 'x'.repeat(1_000_000), position: 0 })
        .execute();
    });
  await t.rejects(fill(1), { code: 'store.unavailable', details: { sqlite: 'SQLITE_FULL' } });
  t.same(await store.read.selectFrom('regions').select('id').execute(), []);
  await fill(1_000_000);
  t.same(await store.read.selectFrom('regions').select('id').execute(), [{ id: 'r1' }]);
});

sqliteStore(
  'who writes the file beside us is waited for, while everything else goes on',
  async (t, store, { clock, url }) => {
    const other = new SqliteFile(url.slice('sqlite:'.length));
    t.teardown(() => other.close());
    const write = (id: string) =>
      store.transaction((tx) => tx.insertInto('regions').values({ id, name: id }).executeTakeFirst());
    other.exec('begin immediate');
    const late = Array.from({ length: 100 }, (_, index) => write(`late-${String(index)}`));
    const answers = Promise.allSettled(late);
    await clock.advance(SECOND);
    t.same(await store.read.selectFrom('regions').select('id').execute(), [], 'reads are answered');
    await clock.advance(SECOND);
    // Each has waited its 2 s when the first has: they do not wait one after the other.
    t.ok((await answers).every(({ status }) => status === 'rejected'));
    await t.rejects(Promise.all(late), { code: 'store.unavailable', details: { sqlite: 'SQLITE_BUSY' } });
    const patient = write('patient');
    await clock.advance(SECOND);
    other.exec('commit');
    await clock.advance(SECOND);
    await patient;
    t.same(await store.read.selectFrom('regions').select('id').execute(), [{ id: 'patient' }]);
  },
);

sqliteStore('commits are on the disk, and the file is nobody else’s to read', async (t, store, { url }) => {
  const settings = await store.transaction(async (tx) => [
    (await sql`pragma journal_mode`.execute(tx)).rows,
    (await sql`pragma synchronous`.execute(tx)).rows,
    (await sql`pragma foreign_keys`.execute(tx)).rows,
  ]);
  t.same(settings, [[{ journal_mode: 'wal' }], [{ synchronous: 1 }], [{ foreign_keys: 1 }]]);
  const path = url.slice('sqlite:'.length);
  for (const file of [path, `${path}-wal`]) t.equal(statSync(file).mode & 0o077, 0, file);
});

test('what is not a database is refused and left as it is', async (t) => {
  const url = sqliteUrl(t);
  const path = url.slice('sqlite:'.length);
  await t.rejects(openStore({ url, clock, log, mode: 'read' }), { code: 'config.invalid' });
  await t.rejects(openStore({ url: `${url}/below`, clock, log }), { code: 'config.invalid' });
  writeFileSync(path, 'Dear diary, '.repeat(1_000));
  await t.rejects(openStore({ url, clock, log }), { code: 'config.invalid' });
  t.equal(statSync(path).size, 12_000);
});

for (const url of [
  '',
  'mysql://host/db',
  'sqlite:',
  'sqlite::memory:',
  '/var/lib/rackstart.db',
  'postgres://host',
  'postgres://:hush@',
]) {
  test(`the URL "${url}" is refused`, async (t) => {
    const error: unknown = await openStore({ url, clock, log }).catch((reason: unknown) => reason);
    t.match(error, { code: 'config.invalid' });
    t.notMatch(String(error), /hush/);
  });
}

sqliteStore('a query that was made before a column came along sees it afterwards', async (t, store) => {
  const read = () => store.transaction((tx) => tx.selectFrom('cursors').selectAll().execute());
  await store.transaction((tx) => tx.insertInto('cursors').values({ consumer: 'a', position: 7 }).execute());
  t.strictSame(await read(), [{ consumer: 'a', position: 7 }]);
  await store.transaction((tx) => sql`alter table cursors add column note text default 'later'`.execute(tx));
  t.strictSame(await read(), [{ consumer: 'a', position: 7, note: 'later' }]);
});

sqliteStore('queries of more shapes than are kept are answered alike', async (t, store) => {
  await store.transaction((tx) => tx.insertInto('cursors').values({ consumer: 'a', position: 7 }).execute());
  const ask = (names: number) =>
    store.read
      .selectFrom('cursors')
      .select('position')
      .where('consumer', 'in', ['a', ...Array.from({ length: names }, String)])
      .execute();
  for (let names = 0; names < 600; names++) await ask(names);
  t.strictSame(await ask(0), [{ position: 7 }]);
});
