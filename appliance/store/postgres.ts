import { Kysely, PostgresAdapter, PostgresIntrospector, PostgresQueryCompiler, sql } from 'kysely';
import pg from 'pg';

import type { Clock, Millis } from '../kernel/clock.ts';
import { systemClock } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Log } from '../kernel/log.ts';
import type { Engine, OpenMode } from './engine.ts';
import { Outage } from './outage.ts';
import { PostgresDriver, unavailable } from './postgres-driver.ts';
import type { ConnectionSource } from './postgres-driver.ts';
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
    writer: writes && createKysely(new PostgresDriver(writes)),
    reader: createKysely(new PostgresDriver(reads, new Outage('read', clock, log))),
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

function createKysely(driver: PostgresDriver): Kysely<Database> {
  return new Kysely({
    dialect: {
      createDriver: () => driver,
      createQueryCompiler: () => new PostgresQueryCompiler(),
      createAdapter: () => new PostgresAdapter(),
      createIntrospector: (db) => new PostgresIntrospector(db),
    },
  });
}

/** A pool that makes do with fewer connections when the server has no more for it. */
class Connections implements ConnectionSource {
  readonly #pool: pg.Pool;
  readonly #most: number;
  readonly #clock: Clock;
  /** The pool's own count has those that are only asked for, which a full server refuses. */
  readonly #established = new Set<pg.PoolClient>();
  /** Until when it asks the server for no more than it has. */
  #contentUntil: Millis = -Infinity;

  constructor(pool: pg.Pool, clock: Clock) {
    this.#pool = pool;
    this.#most = pool.options.max;
    this.#clock = clock;
    pool.on('connect', (client) => this.#established.add(client));
    pool.on('remove', (client) => this.#established.delete(client));
  }

  /** Errors: `store.unavailable`; `config.invalid` for who or what the server doesn't know. */
  async connect(): Promise<pg.PoolClient> {
    if (this.#clock.now() >= this.#contentUntil) this.#pool.options.max = this.#most;
    try {
      return await this.#pool.connect();
    } catch (error) {
      const has = this.#established.size;
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
