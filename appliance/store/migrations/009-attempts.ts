import type { Kysely } from 'kysely';
import { sql } from 'kysely';

/**
 * What is known of an attempt that failed: when, whose fault it was, and why that is thought; why its machine was chosen. The
 * feed that a rack has its power from, since what shares one falls together.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of statements) await sql.raw(statement).execute(db);
}

const statements = [
  `alter table attempts add column placement text`,
  `alter table attempts add column failed_at bigint`,
  `alter table attempts add column blame text check (blame in ('machine', 'image', 'network', 'service', 'unknown'))`,
  `alter table attempts add column blame_reason text`,
  `create index attempts_by_machine on attempts (machine_id) where machine_id is not null`,
  `create index attempts_by_failure on attempts (failed_at) where failed_at is not null`,
  `create index requests_by_completion on requests (completed_at) where completed_at is not null`,
  `alter table racks add column power_feed text`,
];
