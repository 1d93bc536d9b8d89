import { existsSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import SqliteFile from 'better-sqlite3';
import { Kysely, SqliteAdapter, SqliteIntrospector, SqliteQueryCompiler } from 'kysely';
import type { CompiledQuery, DatabaseConnection, Driver, QueryResult } from 'kysely';

import type { Clock } from '../kernel/clock.ts';
import { systemClock } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Log } from '../kernel/log.ts';
import { silentLog } from '../kernel/log.ts';
import type { Engine, OpenMode } from './engine.ts';
import { Outage } from './outage.ts';
import { createPrivateFile } from './private-file.ts';
import type { Database } from './schema.ts';
import { lockSqlite } from './sqlite-lock.ts';
import { SqliteDisk } from './sqlite-disk.ts';
import { SqliteWriter } from './sqlite-writer.ts';
import type { RunStatement } from './sqlite-writer.ts';

// While the file is opened and recovered; SQLite's own wait blocks the event loop.
const BUSY_TIMEOUT_MS = 2_000;

/** One connection that writes (and owns the file), one that reads and, thanks to WAL, never waits for the first. */
export function openSqlite(path: string, mode: OpenMode, log: Log = silentLog, clock: Clock = systemClock): Engine {
  if (mode === 'read' && !existsSync(path))
    throw new RackstartError('config.invalid', `There is no database at ${path}.`);
  if (!existsSync(dirname(path))) throw new RackstartError('config.invalid', `There is no directory for ${path}.`);
  // It holds key hashes and sealed BMC passwords; its WAL files inherit the mode.
  if (mode === 'write') createPrivateFile(path);
  if (!statSync(path).isFile()) throw new RackstartError('config.invalid', `${path} is not a file.`);

  const open: { close(): unknown }[] = [];
  const close = () => open.reverse().forEach((each) => each.close());
  try {
    let writer: SqliteFile.Database | undefined;
    if (mode === 'write') {
      open.push(lockSqlite(path));
      writer = openConnection(path, false);
      open.push(writer);
      writer.pragma('journal_mode = wal');
      writer.pragma('foreign_keys = on');
      writer.pragma('busy_timeout = 0'); // from here on the writer waits, and everything else goes on
    }
    const reader = openConnection(path, true);
    open.push(reader);
    reader.pragma('schema_version'); // the first look at the file tells whether it is a database at all
    let writing: SqliteWriter | undefined;
    if (writer !== undefined) {
      const disk = new SqliteDisk(path, writer, reader);
      open.push(disk);
      writing = new SqliteWriter(statementsOn(writer), () => writer.inTransaction, disk, clock);
    }
    return {
      dialect: 'sqlite',
      writer: writing && kyselyOn(writing),
      reader: kyselyOn(new SqliteReader(statementsOn(reader), new Outage('read', clock, log))),
      lockSchema: async () => undefined, // the file has one writer, and BEGIN IMMEDIATE makes it the only one
      async close() {
        await writing?.settled();
        close();
      },
    };
  } catch (error) {
    close();
    if (isSqliteError(error) && error.code === 'SQLITE_NOTADB') {
      throw new RackstartError('config.invalid', `${path} is not a SQLite database.`, { cause: error });
    }
    throw translateSqliteError(error);
  }
}

function openConnection(path: string, readonly: boolean): SqliteFile.Database {
  return new SqliteFile(path, { readonly, fileMustExist: true, timeout: BUSY_TIMEOUT_MS });
}

function kyselyOn(driver: Driver): Kysely<Database> {
  return new Kysely<Database>({
    dialect: {
      createDriver: () => driver,
      createQueryCompiler: () => new SqliteQueryCompiler(),
      createAdapter: () => new SqliteStoreAdapter(),
      createIntrospector: (db) => new SqliteIntrospector(db),
    },
  });
}

// SqliteAdapter says that there is one connection, and Kysely then lines its users up: the writer does that itself, and what
// is read is read at once.
class SqliteStoreAdapter extends SqliteAdapter {
  override get supportsMultipleConnections() {
    return true;
  }
}

class SqliteReader implements Driver, DatabaseConnection {
  readonly #run: RunStatement;
  readonly #outage: Outage;

  constructor(run: RunStatement, outage: Outage) {
    this.#run = run;
    this.#outage = outage;
  }

  async init() {
    // opened already
  }
  async destroy() {
    // whoever opened closes
  }
  async acquireConnection() {
    return this;
  }
  async releaseConnection() {
    // there is one, and it stays
  }
  async beginTransaction() {
    throw new RackstartError('internal', 'A transaction was asked of the connection that reads.');
  }
  async commitTransaction() {
    // none begins
  }
  async rollbackTransaction() {
    // none begins
  }

  async executeQuery<Row>({ sql, parameters }: CompiledQuery): Promise<QueryResult<Row>> {
    try {
      const result = this.#run(sql, parameters) as QueryResult<Row>;
      this.#outage.worked();
      return result;
    } catch (error) {
      this.#outage.failed(error);
      throw error;
    }
  }
  async *streamQuery<Row>(query: CompiledQuery): AsyncIterableIterator<QueryResult<Row>> {
    yield await this.executeQuery<Row>(query);
  }
}

function statementsOn(database: SqliteFile.Database): RunStatement {
  const statements = new PreparedStatements(database);
  return (sql, parameters = []) => {
    try {
      const statement = statements.of(sql);
      if (statement.reader) return { rows: statement.all(...parameters) };
      return { rows: [], numAffectedRows: BigInt(statement.run(...parameters).changes) };
    } catch (error) {
      throw translateSqliteError(error);
    }
  };
}

// More than the program has queries; what comes in many shapes (lists of values) must not fill the memory.
const MOST_STATEMENTS = 500;

/**
 * Statements are compiled once: that was the largest part of what a deploy cost the processor (22 %, 110 statements up to the
 * BMC's reset). SQLite compiles one again by itself when the schema has changed.
 */
class PreparedStatements {
  readonly #database: SqliteFile.Database;
  /** Those used last come last. */
  readonly #statements = new Map<string, SqliteFile.Statement>();

  constructor(database: SqliteFile.Database) {
    this.#database = database;
  }

  of(sql: string): SqliteFile.Statement {
    const statement = this.#statements.get(sql) ?? this.#database.prepare(sql);
    this.#statements.delete(sql);
    this.#statements.set(sql, statement);
    const [oldest] = this.#statements.keys();
    if (this.#statements.size > MOST_STATEMENTS && oldest !== undefined) this.#statements.delete(oldest);
    return statement;
  }
}

// https://www.sqlite.org/rescode.html: those that lie outside of the database and us.
const OUTSIDE = /^SQLITE_(BUSY|CANTOPEN|FULL|IOERR|LOCKED|PERM|PROTOCOL|READONLY)/;

/** As the store promises its errors: what an operator repairs outside is `store.unavailable`, all else stays itself. */
export function translateSqliteError(error: unknown): unknown {
  if (!isSqliteError(error) || !OUTSIDE.test(error.code)) return error;
  return new RackstartError('store.unavailable', `SQLite: ${error.message}.`, {
    cause: error,
    details: { sqlite: error.code },
  });
}

function isSqliteError(error: unknown): error is InstanceType<typeof SqliteFile.SqliteError> {
  return error instanceof SqliteFile.SqliteError;
}
