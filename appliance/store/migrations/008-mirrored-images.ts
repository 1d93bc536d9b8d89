import type { Kysely } from 'kysely';
import { sql } from 'kysely';

/** Whether an image can be told to find a mirrored root; null of those that were made before. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql.raw(`alter table images add column has_mdadm integer`).execute(db);
}
