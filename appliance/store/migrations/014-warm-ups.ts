import type { Kysely } from 'kysely';
import { sql } from 'kysely';

/** What warming a machine takes is read from the sagas that did it, which are few among all. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql
    .raw(`create index sagas_warmed on sagas (ended_at) where name = 'warm' and state = 'completed'`)
    .execute(db);
}
