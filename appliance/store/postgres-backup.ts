import { execFile } from 'node:child_process';
import { renameSync, rmSync } from 'node:fs';

import { RackstartError } from '../kernel/errors.ts';
import { silentLog } from '../kernel/log.ts';
import { requireKnownSchema } from './migrate.ts';
import { openPostgres } from './postgres.ts';
import type { PostgresAddress } from './postgres.ts';
import { createPrivateFile } from './private-file.ts';

// Roles belong to a server, not to a database: a backup may be restored under another one.
const UNOWNED = ['--no-owner', '--no-privileges'];

/** pg_dump, custom format: a snapshot of one moment that waits for no writer. */
export async function backupPostgres(address: PostgresAddress, targetFile: string): Promise<void> {
  const partial = `${targetFile}.partial`;
  rmSync(partial, { force: true });
  createPrivateFile(partial);
  try {
    await run('pg_dump', ['--format=custom', ...UNOWNED, `--file=${partial}`, `--dbname=${address.url}`], address);
    renameSync(partial, targetFile);
  } catch (error) {
    rmSync(partial, { force: true });
    throw error;
  }
}

export async function restorePostgres(address: PostgresAddress, sourceFile: string): Promise<void> {
  requireKnownSchema(await archivedSchema(sourceFile));
  await requireEmpty(address);
  const allOrNothing = ['--single-transaction', '--exit-on-error'];
  await run('pg_restore', [...allOrNothing, ...UNOWNED, `--dbname=${address.url}`, sourceFile], address);
}

async function archivedSchema(file: string): Promise<number> {
  const rows = ['--data-only', '--table=schema_migrations', '--file=-', file];
  const text = await run('pg_restore', rows).catch((error: unknown) => {
    if (error instanceof RackstartError && error.code === 'host.missing') throw error;
    throw new RackstartError('config.invalid', `${file} is damaged, or no archive of pg_dump.`, { cause: error });
  });
  // COPY's text format: one row a line, its columns parted by tabs, the number first.
  const numbers = [...text.matchAll(/^(\d+)\t/gm)].map(([, number]) => Number(number));
  if (numbers.length === 0) throw new RackstartError('config.invalid', `${file} is not a database of Rackstart.`);
  return Math.max(...numbers);
}

// Several daemons may share a PostgreSQL database, and each has made its tables: an empty one has no daemon.
async function requireEmpty(address: PostgresAddress): Promise<void> {
  const engine = await openPostgres(address, 'read', silentLog);
  try {
    const tables = await engine.reader.introspection.getTables();
    if (tables.length > 0) throw new RackstartError('state.conflict', 'The database to restore into is not empty.');
  } finally {
    await engine.close();
  }
}

/** The password goes by the environment: arguments can be read by every user of the host. */
function run(program: string, args: readonly string[], address?: PostgresAddress): Promise<string> {
  const env = { ...process.env, ...(address?.password !== undefined && { PGPASSWORD: address.password }) };
  return new Promise((resolve, reject) => {
    execFile(program, args, { env, maxBuffer: 1024 * 1024 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else if (error.code === 'ENOENT') reject(missing(program, error));
      else reject(failed(program, stderr, error));
    });
  });
}

function missing(program: string, cause: Error): RackstartError {
  return new RackstartError('host.missing', `${program} is not installed (Debian: postgresql-client).`, { cause });
}

function failed(program: string, stderr: string, cause: Error): RackstartError {
  return new RackstartError('store.unavailable', `${program}: ${stderr.trim()}`, { cause });
}
