import type { Compilable, Kysely, Transaction } from 'kysely';

import type { Database } from './schema.ts';

/** Queries outside a transaction. They see what is committed and never wait for a writer. */
export type Reader = Pick<Kysely<Database>, 'selectFrom' | 'with'>;

/** A transaction in progress. Nothing but the transaction itself may be awaited while it is open. */
export type Tx = Transaction<Database> & {
  /**
   * Writes it with the commit, behind what was deferred before: on PostgreSQL in one message. For what nobody reads in the same
   * transaction, and whose result nobody needs; its error is the transaction's.
   */
  defer(query: Compilable): void;
  /** Registers what is written last, in the same transaction: what several parts of it have gathered, in one statement. */
  beforeCommit(write: () => Promise<void>): void;
  /** Registers an effect outside the database; it runs once, after the commit, and never when the commit fails. */
  afterCommit(effect: () => void): void;
};

/**
 * One query language on SQLite and PostgreSQL. A transaction is a closure that may run more than once (serialisation
 * failure, deadlock), so invariants are constraints and conditional updates that hold under READ COMMITTED too.
 *
 * A statement that fails ends its transaction on both, also when its error is caught: the rest of the closure fails alike
 * and nothing is committed. Where a taken key is expected, use `onConflict` or a conditional update instead.
 *
 * Numbers are numbers (`bigint` columns, counts, sums); booleans don't exist: compare in SQL, keep text or 0 and 1.
 *
 * Errors: `store.unavailable` when the database can't be reached or written; nothing was changed then, and no effect of
 * `afterCommit` ran. One exception, on PostgreSQL: when the connection broke during the COMMIT itself, `details.commit` is
 * 'unknown', and the caller reads again to learn what holds. Constraint violations surface as the driver's own errors; see
 * `isUniqueViolation`.
 */
export interface Store {
  readonly dialect: 'sqlite' | 'postgres';
  readonly read: Reader;
  /** Refused (`internal`) inside another transaction, where it would wait for itself. */
  transaction<T>(work: (tx: Tx) => Promise<T>): Promise<T>;
  /** Waits for the transactions that run; later ones are refused. */
  close(): Promise<void>;
}
