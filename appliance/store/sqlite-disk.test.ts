import { statSync } from 'node:fs';
import SqliteFile from 'better-sqlite3';
import { test } from 'tap';
import type { Test } from 'tap';

import { SqliteDisk } from './sqlite-disk.ts';
import { sqliteStore, sqliteUrl } from './test-stores.ts';

test('what the disk does not have yet is not read', async (t) => {
  const { disk, commit, seen } = open(t);
  disk.hold();
  commit(1);
  t.same(seen(), []);
  await disk.sync();
  t.same(seen(), [], 'whoever was told before may ask again');
  disk.show();
  t.same(seen(), [1]);
});

test('after a sync that failed nothing is believed until all is written again', async (t) => {
  const broken = new Error('EIO: i/o error, fdatasync');
  const syncs = [() => Promise.reject(broken), () => Promise.resolve()];
  const { disk, path, commit, seen } = open(t, () => syncs.shift()!());
  // Somebody who reads the file beside us holds back what must be written.
  const other = new SqliteFile(path, { readonly: true });
  t.teardown(() => other.close());
  other.exec('begin; select * from numbers');
  disk.hold();
  commit(1);
  await t.rejects(disk.sync(), { code: 'store.unavailable', details: { commit: 'unknown' }, cause: broken });
  disk.show();
  t.same(seen(), [1], 'it was committed, as it turns out');
  t.throws(() => disk.hold(), { code: 'store.unavailable', details: {} }, 'refused before anything is done');
  disk.show();
  t.throws(() => disk.hold(), { code: 'store.unavailable' });
  other.exec('commit');
  disk.show();
  disk.hold();
  await disk.sync();
  disk.show();
});

sqliteStore('the log is moved into the file now and then, and does not grow', async (t, store, { url }) => {
  for (let round = 0; round < 60; round += 1) {
    await store.transaction(async (tx) => {
      for (let row = 0; row < 100; row += 1) {
        const consumer = `${String(row)} ${'x'.repeat(2_000)}`;
        await tx
          .insertInto('cursors')
          .values({ consumer, position: round })
          .onConflict((conflict) => conflict.column('consumer').doUpdateSet({ position: round }))
          .execute();
      }
    });
  }
  const path = url.slice('sqlite:'.length);
  const written = 60 * 100 * 2_000;
  t.ok(statSync(`${path}-wal`).size < written / 2, 'a part of what was written');
  t.ok(statSync(path).size > 100 * 2_000);
});

/** A database with a writer, a reader, and the disk under both; `commit` adds a number to it. */
function open(t: Test, sync?: () => Promise<void>) {
  const path = sqliteUrl(t).slice('sqlite:'.length);
  const writer = new SqliteFile(path);
  writer.exec('pragma journal_mode = wal; create table numbers (number integer)');
  const reader = new SqliteFile(path, { readonly: true });
  const disk = new SqliteDisk(path, writer, reader, sync);
  t.teardown(() => [disk, reader, writer].forEach((each) => each.close()));
  return {
    path,
    disk,
    commit: (number: number) => writer.prepare('insert into numbers values (?)').run(number),
    seen: () => reader.prepare('select number from numbers').pluck().all(),
  };
}
