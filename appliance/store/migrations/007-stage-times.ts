import type { Kysely } from 'kysely';
import { sql } from 'kysely';

/** How long each stage of a boot took on which hardware, and since when a boot has stood still. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of statements) await sql.raw(statement).execute(db);
}

const statements = [
  `alter table boot_sessions add column moved_at bigint`,
  `alter table boot_sessions add column moved_bytes bigint not null default 0`,
  `create table stage_times (
    session_id text not null references boot_sessions (id),
    stage text not null,
    machine_id text not null references machines (id),
    model text,
    firmware text check (firmware in ('bios', 'uefi')),
    milliseconds bigint not null check (milliseconds >= 0),
    outcome text not null check (outcome in ('done', 'late')),
    ended_at bigint not null,
    primary key (session_id, stage)
  )`,
  `create index stage_times_by_hardware on stage_times (model, firmware, stage, ended_at)`,
  `create index stage_times_by_end on stage_times (ended_at)`,
];
