import SqliteFile from 'better-sqlite3';
import { CompiledQuery } from 'kysely';
import type { DatabaseConnection } from 'kysely';
import { test } from 'tap';
import type { Test } from 'tap';

import { systemClock } from '../kernel/clock.ts';
import type { Disk } from './sqlite-writer.ts';
import { SqliteWriter } from './sqlite-writer.ts';

test('those that wait are committed together, and none hears of it before', async (t) => {
  const { statements, insert, transact } = open(t);
  const heard: string[] = [];
  const tell = (name: string) => statements.push(`${name} heard`) && heard.push(name);
  await Promise.all(['a', 'b', 'c'].map((name) => transact(insert(name)).then(() => tell(name))));
  t.same(statements, [
    'begin immediate',
    ...['a', 'b', 'c'].flatMap((name) => ['savepoint turn', `insert ${name}`, 'release turn']),
    'commit',
    'a heard',
    'b heard',
    'c heard',
  ]);
});

test('one that comes alone is committed at once', async (t) => {
  const { statements, insert, transact } = open(t);
  await transact(insert('a'));
  await transact(insert('b'));
  t.equal(statements.filter((statement) => statement === 'commit').length, 2);
});

test('one that fails takes nothing of the others along', async (t) => {
  const { names, insert, transact } = open(t);
  const settled = await Promise.allSettled([
    transact(insert('a')),
    transact(async (connection) => {
      await insert('b')(connection);
      throw new Error('changed my mind');
    }),
    transact(insert('a')),
    transact(insert('c')),
  ]);
  t.same(
    settled.map(({ status }) => status),
    ['fulfilled', 'rejected', 'rejected', 'fulfilled'],
  );
  t.same(names(), ['a', 'c'], 'the second a broke the primary key');
});

test('a commit that fails fails all that were in it, and the next ones are committed', async (t) => {
  const { names, insert, transact, breaks } = open(t);
  breaks.add('commit');
  const settled = await Promise.allSettled([transact(insert('a')), transact(insert('b'))]);
  t.match(settled, [{ reason: { message: 'commit broke' } }, { reason: { message: 'commit broke' } }]);
  t.same(names(), []);
  breaks.clear();
  await transact(insert('a'));
  t.same(names(), ['a']);
});

test('when SQLite rolls everything back by itself, those that had their turn hear so', async (t) => {
  const { names, insert, transact, database } = open(t);
  const settled = await Promise.allSettled([
    transact(insert('a')),
    transact(async () => {
      database.exec('rollback'); // as it does when the disk is full
      throw new Error('disk full');
    }),
    transact(insert('c')),
  ]);
  t.same(
    settled.map(({ status }) => status),
    ['rejected', 'rejected', 'fulfilled'],
  );
  t.same(names(), ['c']);
});

test('a rollback that fails takes its group along, and the next ones are committed all the same', async (t) => {
  const { names, insert, transact, breaks } = open(t);
  breaks.add('rollback to turn').add('rollback');
  const settled = await Promise.allSettled([
    transact(insert('a')),
    transact(() => Promise.reject(new Error('disk full'))),
    // In a group of its own, which can't begin before the other has ended.
    transact(insert('c')),
  ]);
  t.match(settled, [{ status: 'rejected' }, { reason: { message: 'disk full' } }, { status: 'rejected' }]);
  breaks.clear();
  await transact(insert('d'));
  t.same(names(), ['d']);

  breaks.add('commit').add('rollback');
  await t.rejects(transact(insert('e')), { message: 'commit broke' });
  breaks.clear();
  await transact(insert('f'));
  t.same(names(), ['d', 'f']);
});

test('a crowd does not keep the first waiting for the last', async (t) => {
  const { statements, names, insert, transact } = open(t);
  await Promise.all(Array.from({ length: 70 }, (_, index) => transact(insert(`n${index}`))));
  t.equal(names().length, 70);
  t.equal(statements.filter((statement) => statement === 'commit').length, 3);
});

test('a transaction is of no use after its end, though its neighbour is under way', async (t) => {
  const { names, insert, transact } = open(t);
  let ended: DatabaseConnection | undefined;
  const first = transact(async (connection) => {
    ended = connection;
  });
  const second = transact(async (connection) => {
    await insert('b')(connection);
    await t.rejects(insert('late')(ended!), { code: 'internal' });
  });
  await Promise.all([first, second]);
  t.same(names(), ['b']);
});

test('until the disk has a commit nobody hears of it, and nobody writes on top of it', async (t) => {
  const { statements, insert, transact, disk } = open(t);
  const synced = Promise.withResolvers<undefined>();
  const syncing = Promise.withResolvers<undefined>();
  disk.sync = () => {
    syncing.resolve(undefined);
    return synced.promise;
  };
  const tell = (name: string) => () => statements.push(`${name} heard`);
  const first = transact(insert('a')).then(tell('a'));
  await syncing.promise;
  const second = transact(insert('b')).then(tell('b'));
  for (let turns = 0; turns < 10; turns += 1) await new Promise((resolve) => setImmediate(resolve));
  t.equal(statements.at(-1), 'commit');
  disk.sync = () => Promise.resolve();
  synced.resolve(undefined);
  await Promise.all([first, second]);
  t.ok(statements.indexOf('a heard') > statements.indexOf('commit'));
  t.same(statements.slice(-2), ['commit', 'b heard']);
});

test('a commit that the disk does not take fails all that were in it, and the next ones go on', async (t) => {
  const { statements, insert, transact, disk } = open(t);
  const shown: number[] = [];
  disk.show = () => shown.push(statements.length);
  disk.sync = () => Promise.reject(new Error('I/O error'));
  const settled = await Promise.allSettled([transact(insert('a')), transact(insert('b'))]);
  t.match(settled, [{ reason: { message: 'I/O error' } }, { reason: { message: 'I/O error' } }]);
  disk.sync = () => Promise.resolve();
  await transact(insert('c'));
  t.equal(shown.length, 2, 'readers are let go on in both cases');
});

/** A writer on a database in memory that notes its statements; `transact` uses it as Kysely does. */
function open(t: Test) {
  const database = new SqliteFile(':memory:');
  t.teardown(() => database.close());
  database.exec('create table names (name text primary key)');
  const statements: string[] = [];
  const breaks = new Set<string>();
  const run = (sql: string, parameters: readonly unknown[] = []) => {
    if (breaks.has(sql)) throw new Error(`${sql} broke`);
    database.prepare(sql).run(...parameters);
    statements.push(sql.startsWith('insert') ? `insert ${String(parameters[0])}` : sql);
    return { rows: [] };
  };
  const disk: Disk = { hold: () => undefined, sync: () => Promise.resolve(), show: () => undefined };
  const writer = new SqliteWriter(run, () => database.inTransaction, disk, systemClock);

  async function transact(work: (connection: DatabaseConnection) => Promise<unknown>): Promise<void> {
    const turn = await writer.acquireConnection();
    try {
      await writer.beginTransaction(turn);
      try {
        await work(turn);
        await writer.commitTransaction(turn);
      } catch (error) {
        await writer.rollbackTransaction(turn);
        throw error;
      }
    } finally {
      await writer.releaseConnection(turn);
    }
  }

  return {
    database,
    disk,
    statements,
    breaks,
    transact,
    insert: (name: string) => (connection: DatabaseConnection) =>
      connection.executeQuery(CompiledQuery.raw('insert into names values (?)', [name])),
    names: () => database.prepare('select name from names order by name').pluck().all(),
  };
}
