import { existsSync, renameSync, rmSync, statSync } from 'node:fs';
import SqliteFile from 'better-sqlite3';

import { RackstartError } from '../kernel/errors.ts';
import { requireKnownSchema } from './migrate.ts';
import { createPrivateFile } from './private-file.ts';
import { lockSqlite } from './sqlite-lock.ts';
import { translateSqliteError } from './sqlite.ts';

/** Copies the database, also while a daemon writes to it, and looks at the copy before it gets its name. */
export async function backupSqlite(path: string, targetFile: string): Promise<void> {
  if (!existsSync(path)) throw new RackstartError('config.invalid', `There is no database at ${path}.`);
  await copy(path, targetFile);
}

export async function restoreSqlite(path: string, sourceFile: string): Promise<void> {
  const created = createPrivateFile(path);
  const lock = lockSqlite(path);
  try {
    // A log left behind by a database that is gone would be played into the new one.
    const remains = [path, `${path}-wal`].find((file) => existsSync(file) && statSync(file).size > 0);
    if (remains !== undefined) throw new RackstartError('state.conflict', `${remains} is not empty.`);
    await copy(sourceFile, path);
  } catch (error) {
    if (created) rmSync(path);
    throw error;
  } finally {
    lock.close();
  }
}

async function copy(sourceFile: string, targetFile: string): Promise<void> {
  const partial = `${targetFile}.partial`;
  rmSync(partial, { force: true });
  createPrivateFile(partial);
  try {
    const source = new SqliteFile(sourceFile, { readonly: true, fileMustExist: true });
    try {
      // All pages in one step: in several, a writer in between would make it start over, perhaps for ever.
      await source.backup(partial, { progress: () => 2 ** 31 - 1 });
    } finally {
      source.close();
    }
    inspect(partial, sourceFile);
    renameSync(partial, targetFile);
  } catch (error) {
    rmSync(partial, { force: true });
    if (error instanceof SqliteFile.SqliteError && /^SQLITE_(NOTADB|CORRUPT)/.test(error.code)) {
      throw new RackstartError('config.invalid', `${sourceFile} is damaged, or no SQLite database.`, { cause: error });
    }
    throw translateSqliteError(error);
  }
}

function inspect(file: string, origin: string): void {
  const database = new SqliteFile(file, { fileMustExist: true });
  try {
    database.pragma('journal_mode = delete'); // one file, without a log beside it
    const complaint = database.pragma('integrity_check(1)', { simple: true });
    if (complaint !== 'ok') {
      throw new RackstartError('config.invalid', `${origin} is damaged.`, { details: { complaint } });
    }
    const tables = database.prepare("select 1 from sqlite_schema where name = 'schema_migrations'").all();
    if (tables.length === 0) throw new RackstartError('config.invalid', `${origin} is not a database of Rackstart.`);
    const version = database.prepare<[], number | null>('select max(number) from schema_migrations').pluck().get();
    requireKnownSchema(version ?? 0);
  } finally {
    database.close();
  }
}
