import type { CompiledQuery, DatabaseConnection, Driver, QueryResult } from 'kysely';

import { RackstartError } from '../kernel/errors.ts';

/** Runs one statement at once; throws what the store promises to throw. */
export type RunStatement = (sql: string, parameters?: readonly unknown[]) => QueryResult<unknown>;

/**
 * SQLite's one writer, with one disk write for all that a turn of the event loop brings: a commit with `synchronous = full`
 * holds up the loop for a millisecond or many, whatever is in it. Transactions take turns, each in a savepoint of its own,
 * and are committed together. Nobody is told that it is done before it is on the disk; one that fails is undone by itself.
 * One that comes alone waits for nobody: an idle loop comes round at once.
 */
export class SqliteWriter implements Driver {
  readonly #run: RunStatement;
  readonly #inTransaction: () => boolean;
  readonly #queue: (() => void)[] = [];
  #taken = false;
  #group: Group | undefined;

  constructor(run: RunStatement, inTransaction: () => boolean) {
    this.#run = run;
    this.#inTransaction = inTransaction;
  }

  async init() {
    // opened already
  }

  async destroy() {
    // whoever opened closes
  }

  async acquireConnection(): Promise<Turn> {
    if (this.#taken) await new Promise<void>((resolve) => this.#queue.push(resolve));
    this.#taken = true;
    return new Turn(this.#run);
  }

  // Kysely's own driver says BEGIN, which takes the write lock at the first write and may lose it to somebody else.
  async beginTransaction(): Promise<void> {
    if (this.#group === undefined) {
      this.#run('begin immediate');
      const group: Group = { size: 0, isDue: false, ...Promise.withResolvers<undefined>() };
      // Nobody may be left to hear of it.
      group.promise.catch(() => undefined);
      this.#group = group;
      setImmediate(() => this.#due(group));
    }
    this.#group.size++;
    this.#run(`savepoint ${TURN}`);
  }

  async commitTransaction(turn: Turn): Promise<void> {
    turn.requireGood();
    this.#run(`release ${TURN}`);
    const committed = this.#group?.promise;
    this.#end(turn);
    await committed;
  }

  async rollbackTransaction(turn: Turn): Promise<void> {
    // Ended: the commit of its group failed, and took it along.
    if (turn.ended) return;
    if (this.#inTransaction()) {
      this.#run(`rollback to ${TURN}`);
      this.#run(`release ${TURN}`);
    } else {
      // SQLite has rolled back by itself, as after some errors (disk full, I/O): the whole group is gone.
      this.#group?.reject(turn.failure ?? new RackstartError('store.unavailable', 'SQLite rolled a transaction back.'));
      this.#group = undefined;
    }
    this.#end(turn);
  }

  async releaseConnection(turn: Turn): Promise<void> {
    // Its transaction did not begin, or it asked for none.
    if (!turn.ended) this.#end(turn);
  }

  /** The loop has come round: what is under way in the group is waited for, and nothing else. */
  #due(group: Group): void {
    group.isDue = true;
    if (!this.#taken && this.#group === group) this.#commit();
  }

  #end(turn: Turn): void {
    turn.ended = true;
    if (this.#group !== undefined && (this.#group.isDue || this.#group.size === MOST_TOGETHER)) this.#commit();
    const next = this.#queue.shift();
    if (next === undefined) this.#taken = false;
    else next();
  }

  #commit(): void {
    const group = this.#group;
    if (group === undefined) return;
    this.#group = undefined;
    try {
      this.#run('commit');
      group.resolve(undefined);
    } catch (error) {
      if (this.#inTransaction()) this.#run('rollback');
      group.reject(error);
    }
  }
}

interface Group extends PromiseWithResolvers<undefined> {
  /** How many began in it. */
  size: number;
  isDue: boolean;
}

/** Who came first waits for the last: an upper limit to that. */
const MOST_TOGETHER = 32;
const TURN = 'turn';

/** As on PostgreSQL, a statement that fails ends its transaction: what follows fails alike, and nothing is committed. */
class Turn implements DatabaseConnection {
  readonly #run: RunStatement;
  failure: Error | undefined;
  ended = false;

  constructor(run: RunStatement) {
    this.#run = run;
  }

  requireGood(): void {
    if (this.failure !== undefined) throw this.failure;
  }

  async executeQuery<Row>({ sql, parameters }: CompiledQuery): Promise<QueryResult<Row>> {
    this.requireGood();
    // The connection is somebody else's by now.
    if (this.ended) throw new RackstartError('internal', 'A transaction was used after its end.');
    try {
      return this.#run(sql, parameters) as QueryResult<Row>;
    } catch (error) {
      this.failure = error as Error;
      throw error;
    }
  }

  async *streamQuery<Row>(query: CompiledQuery): AsyncIterableIterator<QueryResult<Row>> {
    yield await this.executeQuery<Row>(query);
  }
}
