import { AsyncLocalStorage } from 'node:async_hooks';

import type { Clock } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Log } from '../kernel/log.ts';
import type { Engine, OpenMode } from './engine.ts';
import { migrate, requireCurrentSchema } from './migrate.ts';
import { Outage } from './outage.ts';
import { openPostgres } from './postgres.ts';
import { openSqlite } from './sqlite.ts';
import type { Store, Tx } from './store.ts';
import { runTransaction } from './transaction.ts';
import { parseStoreUrl } from './url.ts';

export interface OpenOptions {
  /** `sqlite:/path/file.db` or `postgres://user:password@host:port/database`. It may hold a password: never log it. */
  url: string;
  clock: Clock;
  log: Log;
  /** `read` looks on beside a running daemon: it takes no lock, changes nothing and refuses transactions. */
  mode?: OpenMode;
}

/**
 * Opens the database and, as a writer, brings its schema up to date.
 *
 * Errors: `config.invalid` (URL, path, credentials), `store.locked` (another daemon has the SQLite file),
 * `store.newer-schema`, `store.older-schema` (reading alone), `store.unavailable`.
 */
export async function openStore({ url, clock, log, mode = 'write' }: OpenOptions): Promise<Store> {
  const address = parseStoreUrl(url);
  const engine =
    address.dialect === 'sqlite'
      ? openSqlite(address.path, mode, log, clock)
      : await openPostgres(address, mode, log, clock);
  try {
    if (engine.writer === undefined) await requireCurrentSchema(engine.reader);
    else await migrate(engine.writer, { lockSchema: engine.lockSchema, clock, log });
  } catch (error) {
    await engine.close();
    throw error;
  }
  return createStore(engine, log, new Outage('written', clock, log));
}

function createStore(engine: Engine, log: Log, outage: Outage): Store {
  const running = new Set<Promise<unknown>>();
  const inside = new AsyncLocalStorage<{ open: boolean }>();
  let closed: Promise<void> | undefined;

  // A closure that opens a second transaction waits for itself: for ever on SQLite, under load on PostgreSQL.
  async function guarded<T>(work: (tx: Tx) => Promise<T>, tx: Tx): Promise<T> {
    const scope = { open: true };
    try {
      return await inside.run(scope, () => work(tx));
    } finally {
      scope.open = false;
    }
  }

  return {
    dialect: engine.dialect,
    read: engine.reader,

    async transaction(work) {
      if (closed !== undefined) throw new RackstartError('store.unavailable', 'The database is closed.');
      if (engine.writer === undefined)
        throw new RackstartError('internal', 'The database was opened for reading alone.');
      if (inside.getStore()?.open === true) {
        throw new RackstartError('internal', 'A transaction was asked for inside a transaction.');
      }
      const run = runTransaction(engine.writer, (tx) => guarded(work, tx), log);
      running.add(run);
      try {
        const result = await run;
        outage.worked();
        return result;
      } catch (error) {
        outage.failed(error);
        throw error;
      } finally {
        running.delete(run);
      }
    },

    close() {
      closed ??= Promise.allSettled(running).then(() => engine.close());
      return closed;
    },
  };
}
