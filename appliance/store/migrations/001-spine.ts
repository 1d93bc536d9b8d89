import type { Kysely } from 'kysely';
import { sql } from 'kysely';

/** The tables of `schema.ts`, on both databases: text, integer and bigint alone, so that they mean the same. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of statements) await sql.raw(statement).execute(db);
}

const statements = [
  // — Tenants —
  `create table tenants (
    id text not null primary key,
    name text not null unique,
    created_at bigint not null
  )`,
  `create table quotas (
    tenant_id text not null primary key references tenants (id),
    max_servers integer not null,
    max_cores integer not null,
    max_memory_mib bigint not null,
    max_disk_gib bigint not null,
    used_servers integer not null default 0 check (used_servers >= 0),
    used_cores integer not null default 0 check (used_cores >= 0),
    used_memory_mib bigint not null default 0 check (used_memory_mib >= 0),
    used_disk_gib bigint not null default 0 check (used_disk_gib >= 0)
  )`,
  `create table api_keys (
    id text not null primary key,
    tenant_id text references tenants (id),
    role text not null check (role in ('operator', 'member')),
    name text not null,
    hmac text not null unique,
    created_at bigint not null,
    revoked_at bigint,
    check ((role = 'operator') = (tenant_id is null))
  )`,
  `create table sealed_keys (name text not null primary key, sealed text not null)`,

  // — Inventory —
  `create table regions (id text not null primary key, name text not null unique)`,
  `create table racks (
    id text not null primary key,
    region_id text not null references regions (id),
    name text not null,
    unique (region_id, name)
  )`,
  `create table flavors (
    id text not null primary key,
    name text not null unique,
    cores integer not null,
    memory_mib bigint not null,
    disk_gib bigint not null,
    nics text not null check (nics in ('same', 'separate'))
  )`,
  `create table images (
    id text not null primary key,
    name text not null,
    version text not null,
    sha256 text not null,
    bytes bigint not null,
    raw_bytes bigint not null,
    format text not null,
    root_partition integer not null,
    root_fs text not null,
    kernel_args text not null,
    created_at bigint not null,
    unique (name, version)
  )`,
  `create table machines (
    id text not null primary key,
    name text not null unique,
    rack_id text not null references racks (id),
    state text not null,
    disk_state text not null check (disk_state in ('clean', 'dirty')),
    quarantine_reason text,
    generation integer not null default 0,
    firmware text,
    vendor text,
    model text,
    serial text,
    smbios_uuid text unique,
    cores integer,
    memory_mib bigint,
    bmc_kind text not null,
    bmc_address text not null,
    bmc_port integer not null,
    bmc_username text not null,
    bmc_password text not null,
    bmc_cipher_suite integer not null,
    disk_rule text not null,
    created_at bigint not null,
    updated_at bigint not null,
    unique (bmc_address, bmc_port)
  )`,
  `create index machines_by_state on machines (state, rack_id)`,
  `create table machine_nics (
    mac text not null primary key,
    machine_id text not null references machines (id),
    name text,
    role text not null,
    speed_mbps integer
  )`,
  `create index machine_nics_by_machine on machine_nics (machine_id)`,
  `create table machine_disks (
    machine_id text not null references machines (id),
    name text not null,
    bytes bigint not null,
    type text not null,
    serial text not null,
    model text not null,
    primary key (machine_id, name)
  )`,

  // — Network —
  `create table subnets (
    id text not null primary key,
    region_id text not null references regions (id),
    role text not null,
    family integer not null check (family in (4, 6)),
    cidr text not null unique,
    gateway text,
    dns text not null,
    server_first text not null,
    server_last text not null,
    reserved_first text,
    reserved_last text,
    lease_first text,
    lease_last text
  )`,
  `create table addresses (
    subnet_id text not null references subnets (id),
    address text not null,
    holder_kind text not null check (holder_kind in ('attempt', 'nic', 'set-aside')),
    holder_id text not null,
    tenant_id text references tenants (id),
    held_at bigint not null,
    primary key (subnet_id, address)
  )`,
  `create index addresses_by_holder on addresses (holder_kind, holder_id)`,
  `create table leases (
    subnet_id text not null references subnets (id),
    address text not null,
    mac text not null,
    client_id text,
    hostname text,
    state text not null check (state in ('offered', 'bound', 'declined')),
    expires_at bigint not null,
    primary key (subnet_id, address)
  )`,
  `create index leases_by_mac on leases (mac)`,

  // — Requests —
  `create table requests (
    id text not null primary key,
    tenant_id text not null references tenants (id),
    project text not null,
    provider text not null,
    hostname text not null,
    region_id text not null references regions (id),
    flavor_id text not null references flavors (id),
    image_id text not null references images (id),
    params text not null,
    state text not null,
    connection text,
    failure text,
    idempotency_key text,
    idempotency_digest text,
    created_by text not null,
    created_at bigint not null,
    updated_at bigint not null,
    completed_at bigint,
    ended_at bigint
  )`,
  `create unique index requests_by_idempotency_key on requests (tenant_id, idempotency_key) where idempotency_key is not null`,
  `create index requests_by_tenant on requests (tenant_id, created_at)`,
  `create table attempts (
    id text not null primary key,
    request_id text not null references requests (id),
    tenant_id text not null references tenants (id),
    number integer not null,
    saga_id text not null unique,
    machine_id text references machines (id),
    path text not null check (path in ('cold', 'warm')),
    outcome text not null check (outcome in ('running', 'succeeded', 'failed', 'cancelled')),
    failure text,
    created_at bigint not null,
    ended_at bigint,
    unique (request_id, number)
  )`,
  `create table allocations (
    machine_id text not null primary key references machines (id),
    attempt_id text not null unique references attempts (id),
    tenant_id text not null references tenants (id),
    claimed_at bigint not null
  )`,
  `create table agents (
    attempt_id text not null primary key references attempts (id),
    request_id text not null references requests (id),
    machine_id text not null references machines (id),
    tenant_id text not null references tenants (id),
    protocol integer,
    host_key text,
    phoned_home_at bigint,
    heartbeat_at bigint,
    metrics text,
    created_at bigint not null,
    revoked_at bigint
  )`,

  // — Boot —
  `create table install_plans (
    digest text not null primary key,
    tenant_id text not null references tenants (id),
    body text not null,
    created_at bigint not null
  )`,
  `create table boot_orders (
    id text not null primary key,
    machine_id text not null references machines (id),
    generation integer not null,
    verb text not null check (verb in ('inspect', 'wait', 'install', 'wipe', 'local-disk')),
    plan_digest text references install_plans (digest),
    attempt_id text references attempts (id),
    tenant_id text references tenants (id),
    state text not null check (state in ('pending', 'claimed', 'consumed', 'revoked')),
    created_at bigint not null,
    claimed_at bigint,
    ended_at bigint,
    unique (machine_id, generation),
    check ((verb = 'install') = (plan_digest is not null))
  )`,
  `create index boot_orders_by_attempt on boot_orders (attempt_id) where attempt_id is not null`,
  `create unique index boot_orders_one_live on boot_orders (machine_id) where state in ('pending', 'claimed')`,
  `create table boot_sessions (
    id text not null primary key,
    machine_id text not null references machines (id),
    order_id text not null references boot_orders (id),
    generation integer not null,
    state text not null,
    opened_at bigint not null,
    window_until bigint not null,
    powered_at bigint,
    nonce_hash text,
    claimed_at bigint,
    seen_at bigint not null,
    ended_at bigint,
    end_reason text,
    stages text not null
  )`,
  `create index boot_sessions_by_order on boot_sessions (order_id)`,
  `create unique index boot_sessions_one_live on boot_sessions (machine_id) where ended_at is null`,
  `create table timeline (
    id text not null primary key,
    machine_id text not null,
    session_id text,
    at bigint not null,
    source text not null,
    name text not null,
    detail text not null
  )`,
  `create index timeline_by_session on timeline (session_id, at)`,
  `create index timeline_by_machine on timeline (machine_id, at)`,

  // — Sagas —
  `create table sagas (
    id text not null primary key,
    name text not null,
    version integer not null,
    tenant_id text references tenants (id),
    subject text not null,
    params text not null,
    state text not null check (state in ('running', 'completed', 'undoing', 'undone', 'stuck')),
    reason text,
    owner text,
    epoch integer not null default 0,
    lease_expires_at bigint not null default 0,
    wake_at bigint,
    created_at bigint not null,
    ended_at bigint
  )`,
  `create index sagas_due on sagas (wake_at) where wake_at is not null`,
  `create index sagas_by_subject on sagas (subject)`,
  `create table saga_steps (
    saga_id text not null references sagas (id),
    name text not null,
    ordinal integer not null,
    tenant_id text,
    state text not null,
    tries integer not null,
    output text,
    error text,
    recheck_at bigint,
    started_at bigint not null,
    ended_at bigint,
    primary key (saga_id, name)
  )`,
  `create table saga_waits (
    saga_id text not null references sagas (id),
    step text not null,
    type text not null,
    key text not null,
    since bigint not null,
    primary key (saga_id, step, type, key)
  )`,
  `create index saga_waits_by_event on saga_waits (type, key)`,
  `create table resources (
    saga_id text not null references sagas (id),
    step text not null,
    name text not null,
    key text not null unique,
    tenant_id text,
    state text not null check (state in ('intended', 'created', 'deleting', 'deleted')),
    ref text,
    started_at bigint not null,
    ended_at bigint,
    primary key (saga_id, name)
  )`,

  // — Events —
  `create table events (
    id text not null primary key,
    position bigint unique,
    type text not null,
    key text not null,
    tenant_id text,
    at bigint not null,
    actor text not null,
    data text not null
  )`,
  `create index events_unpositioned on events (id) where position is null`,
  `create index events_by_key on events (key, type, position)`,
  `create table event_positions (id integer not null primary key check (id = 1), last bigint not null)`,
  `insert into event_positions (id, last) values (1, 0)`,
  `create table cursors (consumer text not null primary key, position bigint not null)`,
];
