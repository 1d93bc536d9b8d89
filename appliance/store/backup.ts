import { existsSync } from 'node:fs';

import { RackstartError } from '../kernel/errors.ts';
import { backupPostgres, restorePostgres } from './postgres-backup.ts';
import { backupSqlite, restoreSqlite } from './sqlite-backup.ts';
import { parseStoreUrl } from './url.ts';

/**
 * Writes the database to a new file, as of one moment, while the daemon goes on: a SQLite file, or a PostgreSQL custom
 * archive. It holds what the database holds (key hashes, sealed passwords) and is readable by its owner alone.
 *
 * Errors: `state.conflict` (the target exists), `config.invalid`, `host.missing` (no pg_dump), `store.unavailable`.
 */
export async function backup(url: string, targetFile: string): Promise<void> {
  const address = parseStoreUrl(url);
  if (existsSync(targetFile)) throw new RackstartError('state.conflict', `${targetFile} exists already.`);
  if (address.dialect === 'sqlite') await backupSqlite(address.path, targetFile);
  else await backupPostgres(address, targetFile);
}

/**
 * Fills an empty database from a backup, all or nothing; an older schema is brought up to date when it is next opened.
 * A PostgreSQL archive is a program that the server runs: restore only what you wrote.
 *
 * Errors: `state.conflict` (the target holds something), `store.locked` (a daemon has it), `config.invalid` (no backup),
 * `store.newer-schema`, `host.missing` (no pg_restore), `store.unavailable`.
 */
export async function restore(url: string, sourceFile: string): Promise<void> {
  const address = parseStoreUrl(url);
  if (!existsSync(sourceFile)) throw new RackstartError('config.invalid', `There is no file ${sourceFile}.`);
  if (address.dialect === 'sqlite') await restoreSqlite(address.path, sourceFile);
  else await restorePostgres(address, sourceFile);
}
