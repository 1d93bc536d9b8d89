import type { Kysely } from 'kysely';
import { sql } from 'kysely';

/** A hedge that found no machine is none of which a request has one at most. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of statements) await sql.raw(statement).execute(db);
}

const statements = [
  `drop index attempts_hedged`,
  `create unique index attempts_hedged on attempts (request_id)
    where hedges is not null and (machine_id is not null or outcome = 'running')`,
];
