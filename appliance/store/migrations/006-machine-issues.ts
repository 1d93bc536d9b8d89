import type { Kysely } from 'kysely';
import { sql } from 'kysely';

/**
 * What is wrong with a machine: one open row per machine and type, and those that were resolved. When its health was checked, and
 * which of its NICs have had a link. What proves that a disk was wiped.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of statements) await sql.raw(statement).execute(db);
}

const statements = [
  `create table machine_issues (
    id text not null primary key,
    machine_id text not null references machines (id),
    type text not null,
    severity text not null check (severity in ('info', 'warning', 'critical')),
    message text not null,
    remedy text not null,
    evidence text not null,
    raised_at bigint not null,
    seen_at bigint not null,
    resolved_at bigint,
    resolved_by text,
    check ((resolved_at is null) = (resolved_by is null))
  )`,
  `create unique index machine_issues_one_open on machine_issues (machine_id, type) where resolved_at is null`,
  `create index machine_issues_by_age on machine_issues (machine_id, raised_at, id)`,
  `alter table machines add column checked_at bigint`,
  `alter table machine_nics add column link text check (link in ('up', 'down', 'gone'))`,
  // The session may be pruned away; the certificate stays.
  `create table wipe_certificates (
    id text not null primary key,
    machine_id text not null references machines (id),
    session_id text not null,
    disk text not null,
    serial text not null,
    model text not null,
    bytes bigint not null,
    method text not null,
    started_at bigint not null,
    ended_at bigint not null,
    seed text not null,
    samples integer not null,
    sampled_bytes bigint not null,
    digest text not null,
    result text not null check (result in ('passed', 'failed')),
    reason text,
    check ((result = 'failed') = (reason is not null))
  )`,
  `create unique index wipe_certificates_by_disk on wipe_certificates (session_id, disk)`,
  `create index wipe_certificates_by_age on wipe_certificates (machine_id, ended_at, id)`,
];
