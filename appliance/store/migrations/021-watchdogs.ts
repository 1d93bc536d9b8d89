import type { Kysely } from 'kysely';
import { sql } from 'kysely';

/** Boots in which the BMC resets a machine that stands still. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql.raw(`alter table boot_sessions add column watchdog bigint`).execute(db);
}
