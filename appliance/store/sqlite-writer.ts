import type { CompiledQuery, Driver, QueryResult } from 'kysely';

import type { Clock, Millis } from '../kernel/clock.ts';
import { SECOND } from '../kernel/clock.ts';
import { hasCode, RackstartError } from '../kernel/errors.ts';
import type { StoreConnection } from './engine.ts';

/** Runs one statement at once; throws what the store promises to throw. */
export type RunStatement = (sql: string, parameters?: readonly unknown[]) => QueryResult<unknown>;

/** What is under a commit. */
export interface Disk {
  /** Until `show` nobody reads more than what the disk has now. */
  hold(): void;
  /** Resolves when the disk has what was committed. Errors: `store.unavailable`; nobody knows then what it has. */
  sync(): Promise<void>;
  show(): void;
}

/**
 * SQLite's one writer, with one disk write for all that a turn of the event loop brings: it takes a millisecond or many,
 * whatever is in it. Transactions take turns, each in a savepoint of its own, and are committed together. Nobody is told that
 * it is done, and nobody reads it, before it is on the disk; meanwhile only those who write wait. One that fails is undone by
 * itself. One that comes alone waits for nobody: an idle loop comes round at once.
 */
export class SqliteWriter implements Driver {
  readonly #run: RunStatement;
  readonly #inTransaction: () => boolean;
  readonly #disk: Disk;
  readonly #clock: Clock;
  readonly #queue: (() => void)[] = [];
  #taken = false;
  #group: Group | undefined;
  /** The last commit; never rejects. */
  #committed = Promise.resolve();

  constructor(run: RunStatement, inTransaction: () => boolean, disk: Disk, clock: Clock) {
    this.#run = run;
    this.#inTransaction = inTransaction;
    this.#disk = disk;
    this.#clock = clock;
  }

  async init() {
    // opened already
  }

  async destroy() {
    // whoever opened closes
  }

  /** Resolves when nothing is under way any more, for who closes: who was undone did not wait for the rest of its group. */
  async settled(): Promise<void> {
    await this.#group?.promise.catch(() => undefined);
    await this.#committed;
  }

  async acquireConnection(): Promise<Turn> {
    const patience = this.#clock.now() + BUSY_PATIENCE;
    if (this.#taken) await new Promise<void>((resolve) => this.#queue.push(resolve));
    this.#taken = true;
    return new Turn(this.#run, patience);
  }

  // Kysely's own driver says BEGIN, which takes the write lock at the first write and may lose it to somebody else.
  async beginTransaction(turn: Turn): Promise<void> {
    if (this.#group === undefined) {
      await this.#begin(turn.patience);
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
    turn.runDeferred();
    this.#run(`release ${TURN}`);
    const committed = this.#group?.promise;
    this.#end(turn);
    await committed;
  }

  async rollbackTransaction(turn: Turn): Promise<void> {
    // Ended: the commit of its group failed, and took it along.
    if (turn.ended) return;
    if (!this.#undo()) {
      // The whole group is gone.
      this.#group?.reject(turn.failure ?? new RackstartError('store.unavailable', 'SQLite rolled a transaction back.'));
      this.#group = undefined;
    }
    this.#end(turn);
  }

  async releaseConnection(turn: Turn): Promise<void> {
    // Its transaction did not begin, or it asked for none.
    if (!turn.ended) this.#end(turn);
  }

  /**
   * Takes the write lock. Nobody but us should write this file; who does (sqlite3 on a shell) is waited for while everything
   * else goes on, and not again by each of those who queued up behind: their patience began when they came.
   */
  async #begin(patience: Millis): Promise<void> {
    // A rollback that failed has left it open.
    if (this.#inTransaction()) this.#run('rollback');
    for (;;) {
      try {
        this.#run('begin immediate');
        return;
      } catch (error) {
        if (!isBusy(error) || this.#clock.now() >= patience) throw error;
      }
      await this.#clock.sleepUntil(this.#clock.now() + BUSY_LOOK, NEVER);
    }
  }

  /** Undoes one turn. False when all that is together was undone: by SQLite itself, as after some errors (disk full, I/O). */
  #undo(): boolean {
    if (!this.#inTransaction()) return false;
    try {
      this.#run(`rollback to ${TURN}`);
      this.#run(`release ${TURN}`);
      return true;
    } catch {
      this.#undoAll();
      return false;
    }
  }

  #undoAll(): void {
    try {
      if (this.#inTransaction()) this.#run('rollback');
    } catch {
      // It is tried again before the next begins.
    }
  }

  /** The loop has come round: what is under way in the group is waited for, and nothing else. */
  #due(group: Group): void {
    group.isDue = true;
    if (!this.#taken && this.#group === group) this.#committed = this.#commit(group);
  }

  #end(turn: Turn): void {
    turn.ended = true;
    const group = this.#group;
    if (group !== undefined && (group.isDue || group.size === MOST_TOGETHER)) this.#committed = this.#commit(group);
    else this.#handOver();
  }

  /** Nobody has a turn until it is done: what came next would be built on what the disk may never have. Never rejects. */
  async #commit(group: Group): Promise<void> {
    this.#group = undefined;
    this.#taken = true;
    try {
      this.#disk.hold();
      this.#run('commit');
      await this.#disk.sync();
      this.#disk.show();
      group.resolve(undefined);
    } catch (error) {
      this.#undoAll();
      this.#disk.show();
      group.reject(error);
    }
    this.#handOver();
  }

  #handOver(): void {
    const next = this.#queue.shift();
    if (next === undefined) this.#taken = false;
    else next();
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

// Together what SQLite would have waited by itself, with the event loop standing still.
const BUSY_PATIENCE: Millis = 2 * SECOND;
const BUSY_LOOK: Millis = 20;
const NEVER = new AbortController().signal;

function isBusy(error: unknown): boolean {
  return hasCode(error, 'store.unavailable') && error.details['sqlite'] === 'SQLITE_BUSY';
}

/** As on PostgreSQL, a statement that fails ends its transaction: what follows fails alike, and nothing is committed. */
class Turn implements StoreConnection {
  readonly #run: RunStatement;
  /** Until when it waits for somebody else who writes. */
  readonly patience: Millis;
  readonly #deferred: CompiledQuery[] = [];
  failure: Error | undefined;
  ended = false;

  constructor(run: RunStatement, patience: Millis) {
    this.#run = run;
    this.patience = patience;
  }

  defer(query: CompiledQuery): void {
    this.#deferred.push(query);
  }

  /** Fails when the transaction has. */
  runDeferred(): void {
    if (this.failure !== undefined) throw this.failure;
    for (const query of this.#deferred) this.#execute(query);
  }

  async executeQuery<Row>(query: CompiledQuery): Promise<QueryResult<Row>> {
    return this.#execute(query);
  }

  #execute<Row>({ sql, parameters }: CompiledQuery): QueryResult<Row> {
    if (this.failure !== undefined) throw this.failure;
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
