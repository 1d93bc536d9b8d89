import type { Kysely } from 'kysely';
import { sql } from 'kysely';

/** Late boots are few among all that were timed, and are asked for by themselves. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql.raw(`create index stage_times_late on stage_times (ended_at) where outcome = 'late'`).execute(db);
}
