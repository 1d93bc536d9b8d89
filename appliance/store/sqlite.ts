import { existsSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import SqliteFile from 'better-sqlite3';
import { Kysely, SqliteAdapter, SqliteIntrospector, SqliteQueryCompiler } from 'kysely';
import type { CompiledQuery, DatabaseConnection, Dialect, Driver, QueryResult } from 'kysely';

import { RackstartError } from '../kernel/errors.ts';
import type { Engine, OpenMode } from './engine.ts';
import { createPrivateFile } from './private-file.ts';
import type { Database } from './schema.ts';
import { lockSqlite } from './sqlite-lock.ts';

// Only tools that read may hold the file beside us, and they never block a writer for long. A wait blocks the event loop.
const BUSY_TIMEOUT_MS = 2_000;

/** One connection that writes (and owns the file), one that reads and, thanks to WAL, never waits for the first. */
export function openSqlite(path: string, mode: OpenMode): Engine {
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
      writer.pragma('synchronous = full');
      writer.pragma('foreign_keys = on');
    }
    const reader = openConnection(path, true);
    open.push(reader);
    reader.pragma('schema_version'); // the first look at the file tells whether it is a database at all
    return {
      dialect: 'sqlite',
      writer: writer && new Kysely<Database>({ dialect: new SqliteStoreDialect(writer) }),
      reader: new Kysely<Database>({ dialect: new SqliteStoreDialect(reader) }),
      lockSchema: async () => undefined, // the file has one writer, and BEGIN IMMEDIATE makes it the only one
      close: async () => close(),
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

class SqliteStoreDialect implements Dialect {
  readonly #database: SqliteFile.Database;

  constructor(database: SqliteFile.Database) {
    this.#database = database;
  }

  createDriver() {
    return new SqliteStoreDriver(this.#database);
  }
  createQueryCompiler() {
    return new SqliteQueryCompiler();
  }
  createAdapter() {
    return new SqliteAdapter(); // says that there is one connection: Kysely lines its users up
  }
  createIntrospector(db: Kysely<unknown>) {
    return new SqliteIntrospector(db);
  }
}

class SqliteStoreDriver implements Driver {
  readonly #connection: SqliteStoreConnection;

  constructor(database: SqliteFile.Database) {
    this.#connection = new SqliteStoreConnection(database);
  }

  async init() {
    // opened already
  }
  async acquireConnection() {
    return this.#connection;
  }
  // Kysely's own driver says BEGIN, which takes the write lock at the first write and may lose it to somebody else.
  async beginTransaction(connection: SqliteStoreConnection) {
    connection.begin();
  }
  async commitTransaction(connection: SqliteStoreConnection) {
    connection.commit();
  }
  async rollbackTransaction(connection: SqliteStoreConnection) {
    connection.rollback();
  }
  async releaseConnection() {
    // there is one, and it stays
  }
  async destroy() {
    // whoever opened closes
  }
}

/** As on PostgreSQL, a statement that fails ends its transaction: what follows fails alike, and nothing is committed. */
class SqliteStoreConnection implements DatabaseConnection {
  readonly #database: SqliteFile.Database;
  readonly #statements: PreparedStatements;
  #failure: Error | undefined;

  constructor(database: SqliteFile.Database) {
    this.#database = database;
    this.#statements = new PreparedStatements(database);
  }

  begin(): void {
    this.#failure = undefined;
    this.#run('begin immediate');
  }

  commit(): void {
    if (this.#failure !== undefined) throw this.#failure;
    this.#run('commit');
  }

  rollback(): void {
    this.#failure = undefined;
    // SQLite has rolled back by itself after some errors (disk full, I/O).
    if (this.#database.inTransaction) this.#run('rollback');
  }

  async executeQuery<Row>({ sql, parameters }: CompiledQuery): Promise<QueryResult<Row>> {
    if (this.#failure !== undefined) throw this.#failure;
    const inTransaction = this.#database.inTransaction;
    try {
      return this.#run<Row>(sql, parameters);
    } catch (error) {
      if (inTransaction) this.#failure = error as Error;
      throw error;
    }
  }

  async *streamQuery<Row>(query: CompiledQuery): AsyncIterableIterator<QueryResult<Row>> {
    yield await this.executeQuery<Row>(query);
  }

  #run<Row>(sql: string, parameters: readonly unknown[] = []): QueryResult<Row> {
    try {
      const statement = this.#statements.of(sql);
      if (statement.reader) return { rows: statement.all(...parameters) as Row[] };
      return { rows: [], numAffectedRows: BigInt(statement.run(...parameters).changes) };
    } catch (error) {
      throw translateSqliteError(error);
    }
  }
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
