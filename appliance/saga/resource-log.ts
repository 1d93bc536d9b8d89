import type { Millis } from '../kernel/clock.ts';
import type { ResourceRow } from '../store/schema.ts';
import type { Reader, Tx } from '../store/store.ts';

/** The records of effects outside: one operation a function, each in a fenced transaction of the saga's owner. */
export interface NewResource {
  sagaId: string;
  step: string;
  name: string;
  key: string;
  tenantId: string | undefined;
  now: Millis;
}

export function resourcesOf(read: Reader, sagaId: string): Promise<ResourceRow[]> {
  return read.selectFrom('resources').selectAll().where('saga_id', '=', sagaId).execute();
}

export async function insertResource(tx: Tx, { sagaId, step, name, key, tenantId, now }: NewResource): Promise<void> {
  const intent = { state: 'intended', ref: null, started_at: now, ended_at: null } as const;
  await tx
    .insertInto('resources')
    .values({ ...intent, saga_id: sagaId, step, name, key, tenant_id: tenantId ?? null })
    .execute();
}

export async function setResource(
  tx: Tx,
  { sagaId, name }: { sagaId: string; name: string },
  change: Partial<Pick<ResourceRow, 'state' | 'ref' | 'ended_at'>>,
): Promise<void> {
  await tx.updateTable('resources').set(change).where('saga_id', '=', sagaId).where('name', '=', name).execute();
}
