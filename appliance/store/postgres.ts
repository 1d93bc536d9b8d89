import { Kysely, PostgresDialect, sql } from 'kysely';
import type { PostgresPool, PostgresPoolClient } from 'kysely';
import pg from 'pg';

import { RackstartError } from '../kernel/errors.ts';
import type { Log } from '../kernel/log.ts';
import type { Engine, OpenMode } from './engine.ts';
import type { Database } from './schema.ts';

export interface PostgresAddress {
  /** Without the password. */
  url: string;
  password: string | undefined;
}

// A statement that waits longer for a row than this has met a bug or a dead peer, and its caller can try again.
const LOCK_TIMEOUT_MS = 10_000;
const STATEMENT_TIMEOUT_MS = 30_000;
const IDLE_IN_TRANSACTION_TIMEOUT_MS = 60_000;
const CONNECT_TIMEOUT_MS = 10_000;
// The server enforces the limits above; this one is for a server that is gone and did not say so.
const ANSWER_TIMEOUT_MS = STATEMENT_TIMEOUT_MS + 5_000;
const WRITERS = 8;
const READERS = 4;
// Any constant that no other user of the same database would choose.
const SCHEMA_LOCK = 7_237_737_801;

/** Two pools, so that a read never queues for a connection behind writers that wait for each other. */
export async function openPostgres(address: PostgresAddress, mode: OpenMode, log: Log): Promise<Engine> {
  const reads = createPool(address, { max: READERS, options: '-c default_transaction_read_only=on' }, log);
  const writes = mode === 'write' ? createPool(address, { max: WRITERS }, log) : undefined;
  const close = async () => {
    await reads.end();
    await writes?.end();
  };
  try {
    (await connect(reads)).release();
  } catch (error) {
    await close();
    throw error;
  }
  return {
    dialect: 'postgres',
    writer: writes && createKysely(writes),
    reader: createKysely(reads),
    async lockSchema(tx) {
      await sql`select pg_advisory_xact_lock(${sql.lit(SCHEMA_LOCK)})`.execute(tx);
      await sql`set local statement_timeout = 0`.execute(tx); // a migration may take as long as it needs
    },
    close,
  };
}

function createPool({ url, password }: PostgresAddress, options: pg.PoolConfig, log: Log): pg.Pool {
  const pool = new pg.Pool({
    connectionString: url,
    ...(password !== undefined && { password }),
    application_name: 'rackstart',
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    statement_timeout: STATEMENT_TIMEOUT_MS,
    lock_timeout: LOCK_TIMEOUT_MS,
    idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_TIMEOUT_MS,
    query_timeout: ANSWER_TIMEOUT_MS,
    keepAlive: true,
    types: { getTypeParser },
    ...options,
  });
  pool.on('error', (error) => log.warn({ err: error }, 'an idle database connection was lost'));
  // Without a listener an 'error' of a connection in use would end the process; the query in flight rejects as well.
  pool.on('connect', (client) => client.on('error', () => undefined));
  return pool;
}

// int8 (count, bigint columns) and numeric (their sums) are numbers, as on SQLite; ours stay far below 2^53.
function getTypeParser(...[oid, format]: Parameters<typeof pg.types.getTypeParser>): (value: string) => unknown {
  if (oid === pg.types.builtins.INT8 || oid === pg.types.builtins.NUMERIC) return Number;
  return pg.types.getTypeParser(oid, format) as (value: string) => unknown;
}

function createKysely(pool: pg.Pool): Kysely<Database> {
  const translating: PostgresPool = {
    options: pool.options,
    connect: async () => translatingClient(await connect(pool)),
    end: () => pool.end(),
  };
  return new Kysely({ dialect: new PostgresDialect({ pool: translating }) });
}

async function connect(pool: pg.Pool): Promise<pg.PoolClient> {
  try {
    return await pool.connect();
  } catch (error) {
    // 28xxx: the server does not take this user; 3D000: it has no such database.
    if (error instanceof pg.DatabaseError && /^(28|3D)/.test(error.code ?? '')) {
      throw new RackstartError('config.invalid', `PostgreSQL: ${error.message}.`, { cause: error });
    }
    throw unavailable(error);
  }
}

/**
 * Errors as the store promises them, and a rule of its own: when the connection breaks, nothing more is sent on it (the
 * server rolls back), and it leaves the pool.
 */
function translatingClient(client: pg.PoolClient): PostgresPoolClient {
  let broken: Error | undefined;
  let failure: Error | undefined;

  async function query(text: string, parameters: readonly unknown[]): Promise<Answer> {
    if (broken !== undefined) {
      if (text === 'rollback') return { command: 'ROLLBACK', rowCount: null, rows: [] };
      throw broken;
    }
    if (text.startsWith('start transaction')) failure = undefined;
    const answer = await client.query(text, [...parameters]).catch((error: unknown) => {
      const translated = translate(error, text);
      failure ??= translated;
      if (endsConnection(error)) broken = translated;
      throw translated;
    });
    // COMMIT is answered with ROLLBACK when a statement of the transaction failed and somebody caught its error.
    if (text === 'commit' && answer.command === 'ROLLBACK')
      throw failure ?? new Error('COMMIT was answered with ROLLBACK');
    return answer;
  }

  return { query: query as PostgresPoolClient['query'], release: () => client.release(broken !== undefined) };
}

type Answer = Pick<pg.QueryResult, 'command' | 'rowCount' | 'rows'>;

// PostgreSQL 15 manual, appendix A: connection (08), resources (53), operator intervention and timeouts (57), system (58),
// lock_timeout, a standby that takes no writes, idle_in_transaction_session_timeout.
const OUTSIDE = /^(08|53|57|58|55P03|25006|25P03)/;
const CONNECTION_ENDED = /^(08|57P|25P03)/;

function translate(error: unknown, text: string): Error {
  if (error instanceof pg.DatabaseError && !OUTSIDE.test(error.code ?? '')) return error;
  if (error instanceof TypeError) return error; // a parameter that can't be sent
  return unavailable(error, text === 'commit' ? { commit: 'unknown' } : {});
}

function endsConnection(error: unknown): boolean {
  if (error instanceof pg.DatabaseError) return CONNECTION_ENDED.test(error.code ?? '');
  return !(error instanceof TypeError);
}

function unavailable(cause: unknown, details: Readonly<Record<string, unknown>> = {}): RackstartError {
  const message = cause instanceof Error ? cause.message : String(cause);
  return new RackstartError('store.unavailable', `PostgreSQL: ${message}.`, { cause, details });
}
