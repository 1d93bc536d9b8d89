import type { Kysely } from 'kysely';
import { sql } from 'kysely';

/** Which image a machine writes while it waits; and what was ordered of a pool lately is found without reading all orders. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of statements) await sql.raw(statement).execute(db);
}

const statements = [
  `alter table boot_orders add column image_id text references images (id)`,
  `create index requests_by_pool on requests (region_id, flavor_id, created_at)`,
];
