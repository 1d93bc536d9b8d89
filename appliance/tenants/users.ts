import type { Millis } from '../kernel/clock.ts';
import type { UserRow } from '../store/schema.ts';
import type { Reader, Tx } from '../store/store.ts';
import { openQuota } from './quota.ts';
import type { Role } from './scopes.ts';

export interface NewUser {
  readonly id: string;
  /** Undefined for who works for no tenant: an operator, an auditor of all. */
  readonly tenantId: string | undefined;
  readonly name: string;
  readonly email?: string | undefined;
  readonly role: Role;
}

/** A user, with a quota where it may order. False, and nothing is written, when the name is taken in its tenant. */
export async function addUser(tx: Tx, { id, tenantId, name, email, role }: NewUser, at: Millis): Promise<boolean> {
  const { numInsertedOrUpdatedRows } = await tx
    .insertInto('users')
    .values({ id, tenant_id: tenantId ?? null, name, email: email ?? null, role, created_at: at, disabled_at: null })
    .onConflict((conflict) => conflict.doNothing())
    .executeTakeFirst();
  if (numInsertedOrUpdatedRows !== 1n) return false;
  if (tenantId !== undefined) await openQuota(tx, { kind: 'user', id, tenantId });
  return true;
}

/** A tenant's, or everybody's; by name. */
export function listUsers(read: Reader, tenantId: string | undefined): Promise<UserRow[]> {
  return read
    .selectFrom('users')
    .selectAll()
    .$if(tenantId !== undefined, (query) => query.where('tenant_id', '=', tenantId ?? ''))
    .orderBy('name')
    .orderBy('id')
    .execute();
}

/** Undefined for another tenant's user, too. */
export function findUser(read: Reader, id: string, tenantId: string | undefined): Promise<UserRow | undefined> {
  return read
    .selectFrom('users')
    .selectAll()
    .where('id', '=', id)
    .$if(tenantId !== undefined, (query) => query.where('tenant_id', '=', tenantId ?? ''))
    .executeTakeFirst();
}

/** From now on none of its keys is valid. False when it was disabled before. */
export async function disableUser(tx: Tx, id: string, at: Millis): Promise<boolean> {
  const { numUpdatedRows } = await tx
    .updateTable('users')
    .set({ disabled_at: at })
    .where('id', '=', id)
    .where('disabled_at', 'is', null)
    .executeTakeFirst();
  return numUpdatedRows > 0n;
}
