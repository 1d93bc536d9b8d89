import type { Millis } from '../kernel/clock.ts';
import type { ResourceRow } from '../store/schema.ts';
import type { Reader, Tx } from '../store/store.ts';

/** The records of effects outside: one operation a function, each in a fenced transaction of the saga's owner. */
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

export async function insertResources(tx: Tx, { sagaId, step, tenantId, names, now }: NewResources): Promise<void> {
  if (names.length === 0) return;
  const intent = { state: 'intended', ref: null, started_at: now, ended_at: null } as const;
  const rows = names.map((name) => ({ ...intent, saga_id: sagaId, step, name, key: keyOf(sagaId, name) }));
  await tx
    .insertInto('resources')
    .values(rows.map((row) => ({ ...row, tenant_id: tenantId ?? null })))
    .execute();
}

export async function setResource(
  tx: Tx,
  { sagaId, name }: { sagaId: string; name: string },
  change: Partial<Pick<ResourceRow, 'state' | 'ref' | 'ended_at'>>,
): Promise<void> {
  await tx.updateTable('resources').set(change).where('saga_id', '=', sagaId).where('name', '=', name).execute();
}
