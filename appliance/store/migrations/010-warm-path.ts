import type { Kysely } from 'kysely';
import { sql } from 'kysely';

/** Boots that go on in a ramdisk which waited, and which ramdisk that is. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of statements) await sql.raw(statement).execute(db);
}

const statements = [
  `alter table boot_sessions add column continues text references boot_sessions (id)`,
  `alter table boot_sessions add column ramdisk text`,
  `create unique index boot_sessions_one_continues on boot_sessions (continues) where continues is not null`,
];
