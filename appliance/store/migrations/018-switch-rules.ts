import type { Kysely } from 'kysely';
import { sql } from 'kysely';

/**
 * Rules by which unknown machines are enrolled may go by switch port and firmware, and by these alone. The table is made again, since
 * SQLite drops no constraint.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of statements) await sql.raw(statement).execute(db);
}

const kept = `id, name, rack_id, mac_prefix, vendor, model, subnet_id, name_prefix, nic_role, bmc_network, bmc_kind, bmc_port,
  bmc_username, bmc_password, bmc_cipher_suite, created_at`;

const statements = [
  `create table accept_rules_018 (
    id text not null primary key,
    name text not null unique,
    rack_id text not null references racks (id),
    mac_prefix text,
    vendor text,
    model text,
    firmware_vendor text,
    firmware_version text,
    subnet_id text references subnets (id),
    switch_port text,
    name_prefix text not null,
    nic_role text not null check (nic_role in ('provisioning', 'both')),
    bmc_network text not null,
    bmc_kind text not null,
    bmc_port integer not null,
    bmc_username text not null,
    bmc_password text not null,
    bmc_cipher_suite integer not null,
    created_at bigint not null,
    check (coalesce(mac_prefix, vendor, model, firmware_vendor, firmware_version, subnet_id, switch_port) is not null)
  )`,
  `insert into accept_rules_018 (${kept}) select ${kept} from accept_rules`,
  `drop table accept_rules`,
  `alter table accept_rules_018 rename to accept_rules`,
];
