import type { Kysely } from 'kysely';
import { sql } from 'kysely';

/** The manifest: machines that are expected, by their serial numbers, and what became of them. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of statements) await sql.raw(statement).execute(db);
}

const statements = [
  `create table expected_machines (
    id text not null primary key,
    serial text not null unique,
    name text not null unique,
    rack_id text not null references racks (id),
    unit integer not null,
    bmc_kind text not null,
    bmc_address text not null,
    bmc_port integer not null,
    bmc_username text not null,
    bmc_password text not null,
    bmc_cipher_suite integer not null,
    nic_role text not null check (nic_role in ('provisioning', 'both')),
    switch_port text,
    machine_id text unique references machines (id),
    created_at bigint not null,
    updated_at bigint not null,
    unique (bmc_address, bmc_port)
  )`,
];
