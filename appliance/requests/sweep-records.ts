import type { EventMap } from '../events/catalogue.ts';
import type { Millis } from '../kernel/clock.ts';
import type { Held } from '../providers/provider.ts';
import type { OrphanRow } from '../store/schema.ts';
import type { Reader, Tx } from '../store/store.ts';

/** Those of a provider, or of all, the oldest first. */
export function orphansOf(read: Reader, provider?: string): Promise<OrphanRow[]> {
  return read
    .selectFrom('orphans')
    .selectAll()
    .$if(provider !== undefined, (query) => query.where('provider', '=', provider ?? ''))
    .orderBy('found_at')
    .orderBy('id')
    .execute();
}

export function orphan({
  id,
  provider,
  held: { cluster, kind, id: name, madeFor },
  at,
  removeAt,
}: {
  id: string;
  provider: string;
  held: Held;
  at: Millis;
  removeAt: Millis;
}): OrphanRow {
  const times = { found_at: at, remove_at: removeAt };
  return { id, provider, cluster, kind, name, made_for: ownerOf(madeFor), ...times, failure: null };
}

/** What an orphan is the row of; the same as `nameOfOrphan`. */
export function nameOf({ cluster, kind, id, madeFor }: Held): string {
  return JSON.stringify([cluster, kind, id, ownerOf(madeFor)]);
}

export function nameOfOrphan({ cluster, kind, name, made_for }: OrphanRow): string {
  return JSON.stringify([cluster, kind, name, made_for]);
}

/** False when it is known already. */
export async function insertOrphan(tx: Tx, row: OrphanRow): Promise<boolean> {
  const { numInsertedOrUpdatedRows } = await tx
    .insertInto('orphans')
    .values(row)
    .onConflict((conflict) => conflict.doNothing())
    .executeTakeFirst();
  return numInsertedOrUpdatedRows === 1n;
}

export async function setFailure(tx: Tx, id: string, failure: { code: string; message: string }): Promise<void> {
  await tx
    .updateTable('orphans')
    .set({ failure: JSON.stringify(failure) })
    .where('id', '=', id)
    .execute();
}

/** False when somebody else was quicker. */
export async function deleteOrphan(tx: Tx, id: string): Promise<boolean> {
  const { numDeletedRows } = await tx.deleteFrom('orphans').where('id', '=', id).executeTakeFirst();
  return numDeletedRows === 1n;
}

export function told({ id, provider, cluster, kind, name, made_for, remove_at }: OrphanRow): EventMap['orphan.found'] {
  return { orphanId: id, provider, cluster, kind, name, madeFor: made_for, removeAt: remove_at };
}

function ownerOf(madeFor: Held['madeFor']): string {
  return 'key' in madeFor ? madeFor.key : madeFor.attemptId;
}
