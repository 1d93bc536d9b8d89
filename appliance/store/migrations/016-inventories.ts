import type { Kysely } from 'kysely';
import { sql } from 'kysely';

/** Of each machine: the inventory that is known to be good, and what its last inspection has seen. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of statements) await sql.raw(statement).execute(db);
}

const statements = [
  `create table machine_inventories (
    machine_id text not null primary key references machines (id),
    good text not null,
    good_at bigint not null,
    seen text not null,
    seen_at bigint not null
  )`,
];
