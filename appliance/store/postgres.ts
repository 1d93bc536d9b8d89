import { Kysely, PostgresDialect, sql } from 'kysely';
import type { PostgresPool, PostgresPoolClient } from 'kysely';
import pg from 'pg';

import type { Clock, Millis } from '../kernel/clock.ts';
import { systemClock } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Log } from '../kernel/log.ts';
import type { Engine, OpenMode } from './engine.ts';
import { Outage } from './outage.ts';
import type { Database } from './schema.ts';

export interface PostgresAddress {
  /** Without the password. */
  url: string;
  password: string | undefined;
}

// A statement that waits longer for a row than this has met a bug or a dead peer, and its caller can try again.
const LOCK_TIMEOUT_MS = 10_000;
const STATEMENT_TIMEOUT_MS = 30_000;
// A process that stands still in a transaction, as one whose host is suspended, loses it before those who wait for its rows give up:
// else it would hold the dispatchers and sequencers of all others.
const IDLE_IN_TRANSACTION_TIMEOUT_MS = 8_000;
const CONNECT_TIMEOUT_MS = 10_000;
// The server enforces the limits above; this one is for a server that is gone and did not say so.
const ANSWER_TIMEOUT_MS = STATEMENT_TIMEOUT_MS + 5_000;
const WRITERS = 8;
const READERS = 4;
// Any constant that no other user of the same database would choose.
const SCHEMA_LOCK = 7_237_737_801;

/** Two pools, so that a read never queues for a connection behind writers that wait for each other. */
export async function openPostgres(
  address: PostgresAddress,
  mode: OpenMode,
  log: Log,
  clock: Clock = systemClock,
): Promise<Engine> {
  const options = '-c default_transaction_read_only=on';
  const reads = new Connections(createPool(address, { max: READERS, options }, log), clock);
  const writes = mode === 'write' ? new Connections(createPool(address, { max: WRITERS }, log), clock) : undefined;
  const close = async () => {
    await reads.end();
    await writes?.end();
  };
  try {
    (await reads.connect()).release();
  } catch (error) {
    await close();
    throw error;
  }
  return {
    dialect: 'postgres',
    writer: writes && createKysely(writes),
    reader: createKysely(reads, new Outage('read', clock, log)),
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
    min: 1, // on a server with few connections the other pool would take an idle one's place, and keep it
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

/** `outage` hears what became of each query; a transaction's is told where it ends. */
function createKysely(connections: Connections, outage?: Outage): Kysely<Database> {
  const translating: PostgresPool = {
    options: connections.options,
    connect: async () => translatingClient(await told(connections.connect(), outage), outage),
    end: () => connections.end(),
  };
  return new Kysely({ dialect: new PostgresDialect({ pool: translating }) });
}

/** A pool that makes do with fewer connections when the server has no more for it. */
class Connections {
  readonly #pool: pg.Pool;
  readonly #most: number;
  readonly #clock: Clock;
  /** Until when it asks the server for no more than it has. */
  #contentUntil: Millis = -Infinity;

  constructor(pool: pg.Pool, clock: Clock) {
    this.#pool = pool;
    this.#most = pool.options.max;
    this.#clock = clock;
  }

  get options(): pg.PoolOptions {
    return this.#pool.options;
  }

  /** Errors: `store.unavailable`; `config.invalid` for who or what the server doesn't know. */
  async connect(): Promise<pg.PoolClient> {
    if (this.#clock.now() >= this.#contentUntil) this.#pool.options.max = this.#most;
    try {
      return await this.#pool.connect();
    } catch (error) {
      const has = this.#pool.totalCount;
      if (!isFull(error) || has === 0) throw connectionError(error);
      // One of those that are there comes free soon: it is queued for, as at the pool's own limit.
      this.#pool.options.max = has;
      this.#contentUntil = this.#clock.now() + CONTENT_MS;
      return this.#pool.connect().catch((second: unknown) => {
        throw connectionError(second);
      });
    }
  }

  end(): Promise<void> {
    return this.#pool.end();
  }
}

// Each try is a line in the server's log.
const CONTENT_MS = 5_000;

// too_many_connections
function isFull(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === '53300';
}

function connectionError(error: unknown): RackstartError {
  // 28xxx: the server does not take this user; 3D000: it has no such database.
  if (error instanceof pg.DatabaseError && /^(28|3D)/.test(error.code ?? '')) {
    return new RackstartError('config.invalid', `PostgreSQL: ${error.message}.`, { cause: error });
  }
  return unavailable(error);
}

async function told<T>(work: Promise<T>, outage: Outage | undefined): Promise<T> {
  try {
    const result = await work;
    outage?.worked();
    return result;
  } catch (error) {
    outage?.failed(error);
    throw error;
  }
}

/**
 * Errors as the store promises them, and a rule of its own: when the connection breaks, nothing more is sent on it (the
 * server rolls back), and it leaves the pool.
 */
function translatingClient(client: pg.PoolClient, outage: Outage | undefined): PostgresPoolClient {
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

  const watched = (text: string, parameters: readonly unknown[]) => told(query(text, parameters), outage);
  return { query: watched as PostgresPoolClient['query'], release: () => client.release(broken !== undefined) };
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
