import type { Kysely } from 'kysely';
import { sql } from 'kysely';

/** Packets on the timeline, the times of deploys, other DHCP servers that were seen, and one writer of leases a subnet. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of statements) await sql.raw(statement).execute(db);
}

const statements = [
  `alter table timeline add column packet text`,

  `alter table machine_nics add column switch_port text`,
  `create index timeline_by_time on timeline (at)`,

  `create table deploy_stages (
    attempt_id text not null references attempts (id),
    stage text not null,
    tenant_id text not null references tenants (id),
    region_id text not null references regions (id),
    model text,
    firmware text,
    path text not null check (path in ('cold', 'warm')),
    milliseconds bigint not null check (milliseconds >= 0),
    ended_at bigint not null,
    primary key (attempt_id, stage)
  )`,
  `create index deploy_stages_by_end on deploy_stages (ended_at)`,
  `create index deploy_stages_by_stage on deploy_stages (stage, ended_at)`,

  `create table foreign_dhcp_servers (
    subnet_id text not null references subnets (id),
    mac text not null,
    address text not null,
    first_seen_at bigint not null,
    last_seen_at bigint not null,
    last_client text not null,
    primary key (subnet_id, mac, address)
  )`,

  // Offers are kept in memory since.
  `delete from leases where state = 'offered'`,
  `drop index leases_by_mac`,
  `create unique index leases_one_a_client on leases (subnet_id, mac) where state = 'bound'`,
  `create table lease_epochs (
    subnet_id text not null primary key references subnets (id),
    epoch bigint not null
  )`,
];
