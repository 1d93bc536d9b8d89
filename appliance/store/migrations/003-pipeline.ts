import type { Kysely } from 'kysely';
import { sql } from 'kysely';

/**
 * Users, projects and keys of users; quotas of tenants, projects and users; prerequisites; what an administrator enters for
 * a manual provider; what the simulation holds; what nobody owns.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of statements) await sql.raw(statement).execute(db);
}

const statements = [
  // — Who —
  `create table users (
    id text not null primary key,
    tenant_id text references tenants (id),
    name text not null,
    email text,
    role text not null check (role in ('operator', 'tenant-admin', 'member', 'auditor')),
    created_at bigint not null,
    disabled_at bigint,
    check (role = 'auditor' or (role = 'operator') = (tenant_id is null))
  )`,
  `create unique index users_by_name on users (tenant_id, name) where tenant_id is not null`,
  `create unique index operators_by_name on users (name) where tenant_id is null`,
  `create table projects (
    id text not null primary key,
    tenant_id text not null references tenants (id),
    name text not null,
    created_at bigint not null,
    deleted_at bigint
  )`,
  `create unique index projects_by_name on projects (tenant_id, name) where deleted_at is null`,
  `insert into projects (id, tenant_id, name, created_at)
    select 'prj_' || substr(id, 5), id, 'default', created_at from tenants`,
  // What was a label of the tenant's own is a project from here on; its id follows from its oldest request's.
  `insert into projects (id, tenant_id, name, created_at)
    select 'prj_' || substr(min(id), 5), tenant_id, project, min(created_at) from requests
    where project <> 'default' group by tenant_id, project`,
  // SQLite changes no CHECK of a table that is there.
  `alter table api_keys rename to api_keys_002`,
  `create table api_keys (
    id text not null primary key,
    tenant_id text references tenants (id),
    user_id text references users (id),
    role text not null check (role in ('operator', 'tenant-admin', 'member', 'auditor')),
    scopes text not null,
    name text not null,
    created_at bigint not null,
    expires_at bigint,
    revoked_at bigint,
    check (role = 'auditor' or (role = 'operator') = (tenant_id is null))
  )`,
  `insert into api_keys (id, tenant_id, role, scopes, name, created_at, revoked_at)
    select id, tenant_id, role, '["*"]', name, created_at, revoked_at from api_keys_002`,
  `create table api_key_secrets (
    hmac text not null primary key,
    key_id text not null references api_keys (id),
    generation integer not null,
    created_at bigint not null,
    valid_until bigint,
    unique (key_id, generation)
  )`,
  `insert into api_key_secrets (hmac, key_id, generation, created_at) select hmac, id, 1, created_at from api_keys_002`,
  `drop table api_keys_002`,
  `create index api_keys_by_user on api_keys (user_id) where user_id is not null`,

  // — How much —
  `create table quotas_003 (
    holder_kind text not null check (holder_kind in ('tenant', 'project', 'user')),
    holder_id text not null,
    tenant_id text not null references tenants (id),
    max_servers integer not null,
    max_cores integer not null,
    max_memory_mib bigint not null,
    max_disk_gib bigint not null,
    used_servers integer not null default 0 check (used_servers >= 0),
    used_cores integer not null default 0 check (used_cores >= 0),
    used_memory_mib bigint not null default 0 check (used_memory_mib >= 0),
    used_disk_gib bigint not null default 0 check (used_disk_gib >= 0),
    primary key (holder_kind, holder_id)
  )`,
  `insert into quotas_003 select 'tenant', tenant_id, quotas.* from quotas`,
  `insert into quotas_003
    select 'project', p.id, p.tenant_id, q.max_servers, q.max_cores, q.max_memory_mib, q.max_disk_gib,
      count(f.id), coalesce(sum(f.cores), 0), coalesce(sum(f.memory_mib), 0), coalesce(sum(f.disk_gib), 0)
    from projects p join quotas q on q.tenant_id = p.tenant_id
      left join requests r on r.tenant_id = p.tenant_id and r.project = p.name and r.ended_at is null
      left join flavors f on f.id = r.flavor_id
    group by p.id, p.tenant_id, q.max_servers, q.max_cores, q.max_memory_mib, q.max_disk_gib`,
  `drop table quotas`,
  `alter table quotas_003 rename to quotas`,
  `create table quota_requests (
    id text not null primary key,
    tenant_id text not null references tenants (id),
    holder_kind text not null check (holder_kind in ('tenant', 'project', 'user')),
    holder_id text not null,
    asked text not null,
    reason text not null,
    state text not null check (state in ('pending', 'approved', 'denied')),
    requested_by text not null,
    decided_by text,
    decision text,
    created_at bigint not null,
    decided_at bigint
  )`,
  `create index quota_requests_by_tenant on quota_requests (tenant_id, created_at)`,
  `create unique index quota_requests_one_pending on quota_requests (holder_kind, holder_id) where state = 'pending'`,

  // — Events: which shape their data has; the audit trail, what somebody did through the API —
  `alter table events add column version integer not null default 1`,
  `alter table events add column origin text`,
  `create index events_by_origin on events (position) where origin is not null`,

  // — What POSTs were answered, for who repeats them —
  `create table idempotency_keys (
    caller text not null,
    route text not null,
    key text not null,
    digest text not null,
    state text not null check (state in ('begun', 'done', 'answered')),
    status integer,
    answer text,
    created_at bigint not null,
    primary key (caller, route, key),
    check ((state = 'answered') = (status is not null))
  )`,
  `create index idempotency_keys_by_age on idempotency_keys (created_at)`,

  // — Requests —
  `alter table requests add column project_id text references projects (id)`,
  `update requests set project_id =
    (select p.id from projects p where p.tenant_id = requests.tenant_id and p.name = requests.project)`,
  `alter table requests drop column project`,
  `alter table requests add column user_id text references users (id)`,
  // When its lack of progress was last noticed.
  `alter table requests add column progress_at bigint`,
  // Since when nothing has held it up but that others are worked on, and when its turn came.
  `alter table requests add column ready_at bigint`,
  `alter table requests add column dispatched_at bigint`,
  `update requests set ready_at = created_at, dispatched_at = created_at`,
  `create index requests_by_state on requests (state, tenant_id) where ended_at is null`,
  `create index requests_in_queue on requests (tenant_id, created_at, id)
    where ready_at is not null and dispatched_at is null and ended_at is null`,
  `create index requests_by_turn on requests (tenant_id, dispatched_at) where dispatched_at is not null`,
  `create table request_prerequisites (
    request_id text not null references requests (id),
    prerequisite_id text not null references requests (id),
    tenant_id text not null references tenants (id),
    primary key (request_id, prerequisite_id)
  )`,
  `create index request_prerequisites_by_prerequisite on request_prerequisites (prerequisite_id)`,
  // How a step's way forward went, once its undo has begun and its row tells of that.
  `alter table saga_steps add column forward text`,

  // — Providers —
  `create table access_entries (
    attempt_id text not null primary key references attempts (id),
    tenant_id text not null references tenants (id),
    asked_at bigint not null,
    connection text,
    entered_by text,
    entered_at bigint
  )`,
  `create table simulated_resources (
    cluster text not null,
    kind text not null,
    name text not null,
    id text not null,
    tenant_id text not null references tenants (id),
    details text not null,
    created_at bigint not null,
    ready_at bigint not null,
    primary key (cluster, kind, name)
  )`,
  `create table orphans (
    id text not null primary key,
    provider text not null,
    cluster text,
    kind text not null,
    name text not null,
    made_for text not null,
    found_at bigint not null,
    remove_at bigint not null,
    failure text
  )`,
  `create unique index orphans_by_name on orphans (provider, coalesce(cluster, ''), kind, name, made_for)`,
  `alter table requests add column cluster text`,
  `alter table images add column map_bytes bigint`,
  `alter table images add column source_sha256 text`,
];
