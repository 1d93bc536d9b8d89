import type { Millis } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Ids } from '../kernel/ids.ts';
import type { Reader, Tx } from '../store/store.ts';
import { addProject, DEFAULT_PROJECT } from './projects.ts';
import { openQuota } from './quota.ts';

export interface NewTenant {
  readonly id: string;
  readonly name: string;
}

/** A tenant with its quota and its first project. False, and nothing is written, when the name is taken. */
export async function addTenant(
  tx: Tx,
  { id, name }: NewTenant,
  { ids, at }: { ids: Ids; at: Millis },
): Promise<boolean> {
  const { numInsertedOrUpdatedRows } = await tx
    .insertInto('tenants')
    .values({ id, name, created_at: at })
    .onConflict((conflict) => conflict.doNothing())
    .executeTakeFirst();
  if (numInsertedOrUpdatedRows !== 1n) return false;
  await openQuota(tx, { kind: 'tenant', id, tenantId: id });
  await addProject(tx, { id: ids.next('prj'), tenantId: id, name: DEFAULT_PROJECT }, at);
  return true;
}

/** Errors: `request.invalid` about `/tenant`. */
export async function requireTenant(read: Reader, id: string): Promise<void> {
  const tenant = await read.selectFrom('tenants').select('id').where('id', '=', id).executeTakeFirst();
  if (tenant !== undefined) return;
  const message = 'There is no such tenant.';
  throw new RackstartError('request.invalid', message, { fields: [{ field: '/tenant', message }] });
}
