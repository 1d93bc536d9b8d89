import type { CompiledQuery, DatabaseConnection, Kysely, Transaction } from 'kysely';

import type { Database } from './schema.ts';

/** The connection of a transaction. */
export interface StoreConnection extends DatabaseConnection {
  /** Runs it when the transaction commits, behind those that were deferred before. */
  defer(query: CompiledQuery): void;
}

/** One opened database, before it is known whether its schema is ours. */
export interface Engine {
  readonly dialect: 'sqlite' | 'postgres';
  /** Undefined when opened for reading alone. */
  readonly writer: Kysely<Database> | undefined;
  readonly reader: Kysely<Database>;
  /** Until `tx` ends nobody else migrates, on this host or another. */
  readonly lockSchema: (tx: Transaction<Database>) => Promise<void>;
  close(): Promise<void>;
}

/** `write` is the daemon; `read` is for tools that look on beside it. */
export type OpenMode = 'write' | 'read';
