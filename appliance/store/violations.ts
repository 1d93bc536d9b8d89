import SqliteFile from 'better-sqlite3';
import pg from 'pg';

import type { Database } from './schema.ts';

/** A table, or a table and the columns of one of its keys in their order: `boot_orders(machine_id, generation)`. */
export type UniqueKey = keyof Database | `${keyof Database}(${string})`;

/**
 * Whether a statement failed because a unique key (primary keys and unique indexes among them) is taken already; of this
 * table or key when one is named. Where it is expected, prefer `onConflict`: a failed statement ends its transaction.
 */
export function isUniqueViolation(error: unknown, key?: UniqueKey): boolean {
  const violated = violatedKey(error);
  if (violated === undefined) return false;
  const [table = '', columns] = (key ?? '').split(/[()]/);
  if (table !== '' && table !== violated.table) return false;
  return columns === undefined || listed(columns).join() === violated.columns.join();
}

function violatedKey(error: unknown): { table: string; columns: string[] } | undefined {
  if (error instanceof SqliteFile.SqliteError) {
    if (error.code !== 'SQLITE_CONSTRAINT_UNIQUE' && error.code !== 'SQLITE_CONSTRAINT_PRIMARYKEY') return undefined;
    // SQLite tells which only here: "UNIQUE constraint failed: boot_orders.machine_id, boot_orders.generation".
    const names = listed(error.message.slice(error.message.indexOf(':') + 1)).map((name) => name.split('.'));
    return { table: names[0]?.[0] ?? '', columns: names.map(([, column = '']) => column) };
  }
  if (error instanceof pg.DatabaseError && error.code === '23505') {
    // The sentence is in the server's language, the key within is not: "Key (machine_id, generation)=(m1, 7) …".
    return { table: error.table ?? '', columns: listed(/\(([^)]*)\)=/.exec(error.detail ?? '')?.[1] ?? '') };
  }
  return undefined;
}

function listed(names: string): string[] {
  return names.split(',').map((name) => name.trim());
}
