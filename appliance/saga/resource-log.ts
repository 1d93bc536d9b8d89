import { sql } from 'kysely';

import type { Millis } from '../kernel/clock.ts';
import type { ResourceRow } from '../store/schema.ts';
import type { Reader, Tx } from '../store/store.ts';

/**
 * The records of effects outside: one operation a function, each in a fenced transaction of the saga's owner; what only writes is
 * deferred to its commit.
 */
export interface NewResources {
  sagaId: string;
  step: string;
  tenantId: string | undefined;
  names: readonly string[];
  now: Millis;
}

export function resourcesOf(read: Reader, sagaId: string): Promise<ResourceRow[]> {
  return read.selectFrom('resources').selectAll().where('saga_id', '=', sagaId).execute();
}

/** The key of a resource: known before it is there, and never another's. */
export function keyOf(sagaId: string, name: string): string {
  return `${sagaId}/${name}`;
}

export function insertResources(tx: Tx, { sagaId, step, tenantId, names, now }: NewResources): void {
  if (names.length === 0) return;
  const intent = { state: 'intended', ref: null, started_at: now, ended_at: null } as const;
  const rows = names.map((name) => ({ ...intent, saga_id: sagaId, step, name, key: keyOf(sagaId, name) }));
  tx.defer(tx.insertInto('resources').values(rows.map((row) => ({ ...row, tenant_id: tenantId ?? null }))));
}

export interface Created {
  readonly name: string;
  readonly ref: string | null;
}

/** All of these are there. */
export function setCreated(tx: Tx, sagaId: string, created: readonly Created[]): void {
  if (created.length === 0) return;
  const refs = created.map(({ name, ref }) => sql`when ${name} then ${ref}`);
  const names = created.map(({ name }) => name);
  tx.defer(
    tx
      .updateTable('resources')
      .set({ state: 'created', ref: sql<string | null>`case name ${sql.join(refs, sql` `)} end` })
      .where('saga_id', '=', sagaId)
      .where('name', 'in', names),
  );
}

/** All that a step has, or may have, is about to be deleted. */
export function setDeleting(tx: Tx, { sagaId, step }: { readonly sagaId: string; readonly step: string }): void {
  const live = tx.updateTable('resources').where('saga_id', '=', sagaId).where('step', '=', step);
  tx.defer(live.set({ state: 'deleting' }).where('state', 'in', ['intended', 'created']));
}

/** None of these is there any more. */
export function setDeleted(tx: Tx, sagaId: string, names: readonly string[], at: Millis): void {
  if (names.length === 0) return;
  const gone = tx.updateTable('resources').where('saga_id', '=', sagaId).where('name', 'in', names);
  tx.defer(gone.set({ state: 'deleted', ended_at: at }));
}
