import type { Kysely } from 'kysely';
import { sql } from 'kysely';

/** An attempt beside another, of which a request has one at most; and that somebody else was there first. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of statements) await sql.raw(statement).execute(db);
}

const statements = [
  `alter table attempts add column hedges text`,
  `alter table attempts add column outrun_at bigint`,
  `create unique index attempts_hedged on attempts (request_id) where hedges is not null`,
  `create index attempts_outrun on attempts (saga_id) where outrun_at is not null and ended_at is null`,
];
