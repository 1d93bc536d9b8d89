import type { Kysely } from 'kysely';
import { sql } from 'kysely';

/** Machines that booted from the network and that nobody had enrolled; rules by which such are taken in. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of statements) await sql.raw(statement).execute(db);
}

const statements = [
  `create table discovered_machines (
    id text not null primary key,
    mac text not null unique,
    subnet_id text not null references subnets (id),
    address text not null,
    state text not null check (state in ('inspecting', 'waiting', 'rejected', 'enrolled')),
    reason text,
    nonce_hash text not null,
    generation integer not null,
    uuid text,
    serial text,
    facts text,
    machine_id text references machines (id),
    first_seen_at bigint not null,
    claimed_at bigint not null,
    seen_at bigint not null,
    told_at bigint,
    check ((state = 'enrolled') = (machine_id is not null)),
    check (state <> 'waiting' or facts is not null)
  )`,
  `create index discovered_machines_by_state on discovered_machines (state, seen_at)`,
  `create table accept_rules (
    id text not null primary key,
    name text not null unique,
    rack_id text not null references racks (id),
    mac_prefix text,
    vendor text,
    model text,
    subnet_id text references subnets (id),
    name_prefix text not null,
    nic_role text not null check (nic_role in ('provisioning', 'both')),
    bmc_network text not null,
    bmc_kind text not null,
    bmc_port integer not null,
    bmc_username text not null,
    bmc_password text not null,
    bmc_cipher_suite integer not null,
    created_at bigint not null,
    check (mac_prefix is not null or vendor is not null or model is not null or subnet_id is not null)
  )`,
];
