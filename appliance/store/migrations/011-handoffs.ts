import type { Kysely } from 'kysely';
import { sql } from 'kysely';

/** How new systems are started, until when they must prove themselves, and what each model of hardware made of that. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of statements) await sql.raw(statement).execute(db);
}

const statements = [
  `alter table boot_sessions add column handoff text check (handoff in ('kexec', 'reset'))`,
  `alter table boot_sessions add column proof_within bigint`,
  `alter table boot_sessions add column proof_due bigint`,
  `alter table boot_sessions add column rescued_at bigint`,
  `create table model_handoffs (
    model text not null,
    firmware text not null check (firmware in ('bios', 'uefi')),
    handoff text not null check (handoff in ('kexec', 'reset')),
    failures integer not null default 0 check (failures >= 0),
    successes integer not null default 0 check (successes >= 0),
    since bigint not null,
    set_by text not null,
    primary key (model, firmware)
  )`,
];
