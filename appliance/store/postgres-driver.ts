import type { CompiledQuery, Driver, QueryResult, TransactionSettings } from 'kysely';
import pg from 'pg';

import { RackstartError } from '../kernel/errors.ts';
import type { StoreConnection } from './engine.ts';
import type { Outage } from './outage.ts';
import { sendTogether, textValues } from './postgres-message.ts';
import type { Part } from './postgres-message.ts';
import { PreparedStatements } from './prepared-statements.ts';

/** Where connections come from. */
export interface ConnectionSource {
  /** Errors: `store.unavailable`, `config.invalid`. */
  connect(): Promise<pg.PoolClient>;
  end(): Promise<void>;
}

/** Kysely on PostgreSQL, with errors as the store promises them. `outage` hears what became of each message. */
export class PostgresDriver implements Driver {
  readonly #source: ConnectionSource;
  readonly #outage: Outage | undefined;
  readonly #statements = new PreparedStatements();
  /** The names that each connection has prepared. */
  readonly #prepared = new WeakMap<pg.PoolClient, Set<string>>();

  constructor(source: ConnectionSource, outage?: Outage) {
    this.#source = source;
    this.#outage = outage;
  }

  async init(): Promise<void> {
    // opened already
  }

  async acquireConnection(): Promise<PostgresConnection> {
    const client = await told(this.#source.connect(), this.#outage);
    const prepared = this.#prepared.get(client) ?? new Set();
    this.#prepared.set(client, prepared);
    return new PostgresConnection(client, { statements: this.#statements, prepared, outage: this.#outage });
  }

  async beginTransaction(connection: PostgresConnection, { isolationLevel }: TransactionSettings): Promise<void> {
    connection.begin(isolationLevel === undefined ? 'begin' : `begin isolation level ${isolationLevel}`);
  }

  commitTransaction(connection: PostgresConnection): Promise<void> {
    return connection.commit();
  }

  rollbackTransaction(connection: PostgresConnection): Promise<void> {
    return connection.rollback();
  }

  async releaseConnection(connection: PostgresConnection): Promise<void> {
    connection.release();
  }

  destroy(): Promise<void> {
    return this.#source.end();
  }
}

interface ConnectionDeps {
  readonly statements: PreparedStatements;
  readonly prepared: Set<string>;
  readonly outage: Outage | undefined;
}

interface Statement {
  readonly text: string;
  readonly values: readonly unknown[];
  readonly name?: string;
}

/**
 * One user's turn with a connection. When it breaks, nothing more is sent on it (the server rolls back), and it leaves the pool.
 *
 * Each message that is waited for wakes two processes, so a transaction is as few as it can be: it is begun with its first
 * statement, not at all without one, and ended with those that were deferred.
 */
class PostgresConnection implements StoreConnection {
  readonly #client: pg.PoolClient;
  readonly #deps: ConnectionDeps;
  /** What begins the transaction that is to begin. */
  #begin: string | undefined;
  #deferred: Statement[] = [];
  #broken: Error | undefined;
  /** What went wrong first in the transaction. */
  #failure: Error | undefined;

  constructor(client: pg.PoolClient, deps: ConnectionDeps) {
    this.#client = client;
    this.#deps = deps;
  }

  begin(text: string): void {
    this.#begin = text;
    this.#deferred = [];
    this.#failure = undefined;
  }

  async executeQuery<Row>(query: CompiledQuery): Promise<QueryResult<Row>> {
    const [answer] = await this.#send([this.#statement(query)]);
    return { rows: (answer?.rows ?? []) as Row[], ...affected(answer) };
  }

  async *streamQuery<Row>(query: CompiledQuery): AsyncIterableIterator<QueryResult<Row>> {
    yield await this.executeQuery<Row>(query);
  }

  defer(query: CompiledQuery): void {
    this.#deferred.push(this.#statement(query));
  }

  async commit(): Promise<void> {
    // The server would answer with ROLLBACK: a statement of the transaction failed, and somebody caught its error.
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#begin !== undefined && this.#deferred.length === 0) this.#begin = undefined;
    else await this.#send([...this.#deferred, COMMIT]);
  }

  async rollback(): Promise<void> {
    // Nothing was begun, or the server has given it up by itself.
    if (this.#begin === undefined && this.#broken === undefined) await this.#send([{ text: 'rollback', values: [] }]);
    this.#begin = undefined;
  }

  release(): void {
    this.#client.release(this.#broken !== undefined);
  }

  #statement({ sql: text, parameters: values }: CompiledQuery): Statement {
    const name = this.#deps.statements.nameOf(text);
    return { text, values, ...(name !== undefined && { name }) };
  }

  /** The answers to these statements, and not to what begins their transaction where it is to begin. */
  async #send(statements: readonly Statement[]): Promise<pg.QueryResult[]> {
    if (this.#broken !== undefined) throw this.#broken;
    const begin: Statement[] = this.#begin === undefined ? [] : [{ text: this.#begin, values: [] }];
    this.#begin = undefined;
    const sending = this.#sendAll([...begin, ...statements]).catch((error: unknown) => {
      throw this.#failed(error, statements.includes(COMMIT));
    });
    return (await told(sending, this.#deps.outage)).slice(begin.length);
  }

  async #sendAll(statements: readonly Statement[]): Promise<pg.QueryResult[]> {
    const parts = this.#parts(statements);
    if (statements.length > 1 && parts !== undefined) return sendTogether(this.#client, parts);
    const answers: pg.QueryResult[] = [];
    for (const { text, values, name } of statements) {
      answers.push(await this.#client.query({ text, values: [...values], ...(name !== undefined && { name }) }));
      if (name !== undefined) this.#deps.prepared.add(name);
    }
    return answers;
  }

  /** Undefined for what has to be sent singly: `pg` prepares a statement the first time, and knows how to write a list. */
  #parts(statements: readonly Statement[]): Part[] | undefined {
    const parts: Part[] = [];
    for (const { text, values, name } of statements) {
      const texts = textValues(values);
      if (texts === undefined || (name !== undefined && !this.#deps.prepared.has(name))) return undefined;
      parts.push({ text, values: texts, ...(name !== undefined && { name }) });
    }
    return parts;
  }

  #failed(error: unknown, isCommit: boolean): Error {
    // From where it was asked for, not from where the answer was read.
    if (error instanceof Error) Error.captureStackTrace(error);
    const ended = endsConnection(error);
    const failure = translate(error, isCommit && ended ? { commit: 'unknown' } : {});
    this.#failure ??= failure;
    if (ended) this.#broken = failure;
    return failure;
  }
}

const COMMIT: Statement = { text: 'commit', values: [] };

function affected(answer: pg.QueryResult | undefined): { numAffectedRows?: bigint } {
  const { command = '', rowCount } = answer ?? {};
  const counts = command === 'INSERT' || command === 'UPDATE' || command === 'DELETE' || command === 'MERGE';
  return counts ? { numAffectedRows: BigInt(rowCount ?? 0) } : {};
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

// PostgreSQL 15 manual, appendix A: connection (08), resources (53), operator intervention and timeouts (57), system (58),
// lock_timeout, a standby that takes no writes, idle_in_transaction_session_timeout.
const OUTSIDE = /^(08|53|57|58|55P03|25006|25P03)/;
const CONNECTION_ENDED = /^(08|57P|25P03)/;

function translate(error: unknown, details: Readonly<Record<string, unknown>>): Error {
  if (error instanceof pg.DatabaseError && !OUTSIDE.test(error.code ?? '') && !isStale(error)) return error;
  if (error instanceof TypeError) return error; // a parameter that can't be sent
  return unavailable(error, details);
}

function endsConnection(error: unknown): boolean {
  if (error instanceof pg.DatabaseError) return CONNECTION_ENDED.test(error.code ?? '') || isStale(error);
  return !(error instanceof TypeError);
}

/**
 * Whether a prepared statement returns other columns than it was prepared with, since a newer program has changed its table: the
 * server refuses it for as long as the connection lasts. The code alone is also that of statements which no server takes.
 */
function isStale({ code, routine }: pg.DatabaseError): boolean {
  return code === '0A000' && routine === 'RevalidateCachedQuery';
}

export function unavailable(cause: unknown, details: Readonly<Record<string, unknown>> = {}): RackstartError {
  const message = cause instanceof Error ? cause.message : String(cause);
  return new RackstartError('store.unavailable', `PostgreSQL: ${message}.`, { cause, details });
}
