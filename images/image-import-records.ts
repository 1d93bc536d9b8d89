import type { Millis } from '../appliance/kernel/clock.ts';
import { RackstartError } from '../appliance/kernel/errors.ts';
import type { ImageImportRow } from '../appliance/store/schema.ts';
import type { Reader, Store, Tx } from '../appliance/store/store.ts';

/** Of this tenant, or anybody's. Errors: `not-found`. */
export async function findImport(read: Reader, tenantId: string | undefined, id: string): Promise<ImageImportRow> {
  const row = await read
    .selectFrom('image_imports')
    .selectAll()
    .where('id', '=', id)
    .$if(tenantId !== undefined, (query) => query.where('tenant_id', '=', tenantId ?? null))
    .executeTakeFirst();
  if (row !== undefined) return row;
  throw new RackstartError('not-found', `There is no image import ${JSON.stringify(id.slice(0, 40))}.`);
}

/** Of this tenant, or all; the newest first. */
export function listImports(read: Reader, tenantId: string | undefined, limit: number): Promise<ImageImportRow[]> {
  return read
    .selectFrom('image_imports')
    .selectAll()
    .$if(tenantId !== undefined, (query) => query.where('tenant_id', '=', tenantId ?? null))
    .orderBy('created_at', 'desc')
    .orderBy('id', 'desc')
    .limit(limit)
    .execute();
}

/** Those that have not ended, in the order in which they were asked for. */
export function runningImports(read: Reader): Promise<ImageImportRow[]> {
  return read
    .selectFrom('image_imports')
    .selectAll()
    .where('state', '=', 'running')
    .orderBy('created_at')
    .orderBy('id')
    .execute();
}

/** What became of this upload, if it was completed. */
export function importOfUpload(
  read: Reader,
  tenantId: string | undefined,
  uploadId: string,
): Promise<ImageImportRow | undefined> {
  return read
    .selectFrom('image_imports')
    .selectAll()
    .where('upload_id', '=', uploadId)
    .$if(tenantId !== undefined, (query) => query.where('tenant_id', '=', tenantId ?? null))
    .executeTakeFirst();
}

/** False when it has ended already. */
export async function endImport(
  tx: Tx,
  id: string,
  end: Pick<ImageImportRow, 'state' | 'stage' | 'image_id' | 'failure' | 'ended_at'>,
): Promise<boolean> {
  const { numUpdatedRows } = await tx
    .updateTable('image_imports')
    .set(end)
    .where('id', '=', id)
    .where('state', '=', 'running')
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

export async function forgetImports(tx: Tx, endedBefore: Millis): Promise<void> {
  await tx.deleteFrom('image_imports').where('ended_at', '<', endedBefore).execute();
}

/** Stored, and reserved by imports that run, in bytes. */
export async function imageBytesOf(read: Reader, tenantId: string): Promise<number> {
  const stored = await read
    .selectFrom('images')
    .select(({ fn }) => fn.sum<number | null>('bytes').as('bytes'))
    .where('tenant_id', '=', tenantId)
    .where('deleted_at', 'is', null)
    .executeTakeFirst();
  const reserved = await read
    .selectFrom('image_imports')
    .select(({ fn }) => fn.sum<number | null>('reserved_bytes').as('bytes'))
    .where('tenant_id', '=', tenantId)
    .where('state', '=', 'running')
    .executeTakeFirst();
  return (stored?.bytes ?? 0) + (reserved?.bytes ?? 0);
}

/** Whoever counts what a tenant has and adds to it does so alone: with READ COMMITTED, two would both see room for one. */
export async function lockTenant(tx: Tx, dialect: Store['dialect'], tenantId: string): Promise<void> {
  // SQLite's transactions take turns anyway.
  if (dialect === 'sqlite') return;
  await tx.selectFrom('tenants').select('id').where('id', '=', tenantId).forUpdate().execute();
}
