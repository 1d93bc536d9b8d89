import type { Kysely } from 'kysely';
import { sql } from 'kysely';

/** What becomes of the disks of servers of a flavor. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql.raw(`alter table flavors add column layout text`).execute(db);
}
