import type { Kysely, Transaction } from 'kysely';

import type { Database } from './schema.ts';

/** Queries outside a transaction. They see what is committed and never wait for a writer. */
export type Reader = Pick<Kysely<Database>, 'selectFrom' | 'with'>;

/** A transaction in progress. Nothing but the transaction itself may be awaited while it is open. */
export type Tx = Transaction<Database> & {
  /** Registers an effect outside the database; it runs once, after the commit, and never when the commit fails. */
  afterCommit(effect: () => void): void;
};

/**
 * One query language on SQLite and PostgreSQL. A transaction is a closure that may run more than once (serialisation
 * failure, deadlock), so invariants are constraints and conditional updates that hold under READ COMMITTED too.
 *
 * Errors: `store.unavailable` when the database can't be reached or written; nothing was changed then.
 */
export interface Store {
  readonly dialect: 'sqlite' | 'postgres';
  readonly read: Reader;
  transaction<T>(work: (tx: Tx) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}
