import type { Millis } from '../appliance/kernel/clock.ts';
import { RackstartError } from '../appliance/kernel/errors.ts';
import type { ImageRow } from '../appliance/store/schema.ts';
import type { Reader, Store, Tx } from '../appliance/store/store.ts';

/** Everyone's, and this tenant's own; undefined: all. By name, the oldest first. */
export function listImages(read: Reader, tenantId: string | undefined): Promise<ImageRow[]> {
  return visible(read, tenantId).orderBy('name').orderBy('created_at').orderBy('id').execute();
}

/** Errors: `not-found`, also for another tenant's. */
export async function findImage(read: Reader, tenantId: string | undefined, id: string): Promise<ImageRow> {
  const row = await visible(read, tenantId).where('id', '=', id).executeTakeFirst();
  if (row !== undefined) return row;
  throw new RackstartError('not-found', `There is no image ${JSON.stringify(id.slice(0, 40))}.`);
}

/** Undefined when it is so already. Errors: as of `findOwn`. */
export async function setDeprecated(
  tx: Tx,
  tenantId: string | undefined,
  id: string,
  deprecatedAt: Millis | null,
): Promise<ImageRow | undefined> {
  const image = await findOwn(tx, tenantId, id);
  if ((image.deprecated_at === null) === (deprecatedAt === null)) return undefined;
  await tx.updateTable('images').set({ deprecated_at: deprecatedAt }).where('id', '=', id).execute();
  return image;
}

/**
 * What nobody needs is nobody's from now on; its chunks are collected. Errors: as of `findOwn`; `state.conflict` while a server
 * that lives, or is about to, was ordered with it.
 */
export async function deleteImage(
  tx: Tx,
  dialect: Store['dialect'],
  { tenantId, id, at }: { tenantId: string | undefined; id: string; at: Millis },
): Promise<ImageRow> {
  const image = await findOwn(tx, tenantId, id);
  // Orders hold a share of this row until they are committed: from here on there are no new ones.
  if (dialect === 'postgres') await tx.selectFrom('images').select('id').where('id', '=', id).forUpdate().execute();
  const { servers } = await tx
    .selectFrom('requests')
    .select(({ fn }) => fn.countAll<number>().as('servers'))
    .where('image_id', '=', id)
    .where('ended_at', 'is', null)
    .executeTakeFirstOrThrow();
  if (servers > 0) {
    const why = `${String(servers)} servers were ordered with image ${image.name}:${image.version}, and need it.`;
    throw new RackstartError('state.conflict', why, { details: { servers } });
  }
  await tx.updateTable('images').set({ deleted_at: at }).where('id', '=', id).execute();
  return image;
}

/** Errors: `not-found`; `auth.forbidden` for a tenant that names everyone's. */
async function findOwn(read: Reader, tenantId: string | undefined, id: string): Promise<ImageRow> {
  const image = await findImage(read, tenantId, id);
  if (tenantId === undefined || image.tenant_id === tenantId) return image;
  throw new RackstartError(
    'auth.forbidden',
    `Image ${image.name}:${image.version} is everyone's: operators change it.`,
  );
}

function visible(read: Reader, tenantId: string | undefined) {
  return read
    .selectFrom('images')
    .selectAll()
    .where('deleted_at', 'is', null)
    .$if(tenantId !== undefined, (query) =>
      query.where((where) => where.or([where('tenant_id', 'is', null), where('tenant_id', '=', tenantId ?? '')])),
    );
}
