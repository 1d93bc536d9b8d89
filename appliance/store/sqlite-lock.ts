import { realpathSync } from 'node:fs';
import SqliteFile from 'better-sqlite3';

import { RackstartError } from '../kernel/errors.ts';
import { createPrivateFile } from './private-file.ts';

/** Held until `close`; the operating system releases it when the process ends, however it ends. */
export interface SqliteLock {
  close(): void;
}

/**
 * Makes this process the only one that writes to the database at `path`, or fails with `store.locked`. SQLite's own locks
 * come and go with each transaction, so the lock is an exclusive transaction, never ended, on an empty database beside
 * it: `<file>.lock`. That file stays when the daemon is gone and means nothing by itself.
 */
export function lockSqlite(path: string): SqliteLock {
  const file = realpathSync(path); // two names of one file are one lock
  createPrivateFile(`${file}.lock`); // whoever may read it could hold it
  const lock = new SqliteFile(`${file}.lock`, { timeout: 0 });
  try {
    lock.exec('begin exclusive');
  } catch (error) {
    lock.close();
    if (!(error instanceof SqliteFile.SqliteError) || error.code !== 'SQLITE_BUSY') throw error;
    throw new RackstartError('store.locked', `Another daemon has opened ${file}.`, {
      cause: error,
      details: { file, lock: `${file}.lock` },
    });
  }
  return lock;
}
