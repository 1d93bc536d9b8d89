import { createHmac } from 'node:crypto';

import type { Millis } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Ids } from '../kernel/ids.ts';
import { Secret } from '../kernel/secret.ts';
import type { Reader, Tx } from '../store/store.ts';

/** Who calls. An operator acts for the fleet and is nobody's tenant; a member acts for one tenant. */
export type Caller =
  | { readonly role: 'operator'; readonly keyId: string }
  | { readonly role: 'member'; readonly keyId: string; readonly tenantId: string };

export interface NewApiKey {
  readonly name: string;
  /** Undefined for an operator's key. */
  readonly tenantId?: string;
}

// 160 bits: beyond guessing, so that a fast HMAC is the right hash for it.
const SECRET_BYTES = 20;

export interface KeyDeps {
  readonly ids: Ids;
  readonly hmacKey: Secret;
  readonly at: Millis;
}

/** The key itself exists only in the answer; the database keeps its HMAC under `hmacKey`. */
export async function issueApiKey(tx: Tx, asked: NewApiKey, deps: KeyDeps): Promise<{ id: string; key: Secret }> {
  const key = newApiKey(deps.ids);
  return { id: await adoptApiKey(tx, asked, key, deps), key };
}

export function newApiKey(ids: Ids): Secret {
  return new Secret(`rackstart_${ids.random(SECRET_BYTES).toString('hex')}`);
}

/** Makes a key valid that was made elsewhere. One that is known already, revoked or not, stays as it is. */
export async function adoptApiKey(
  tx: Tx,
  { name, tenantId }: NewApiKey,
  key: Secret,
  { ids, hmacKey, at }: KeyDeps,
): Promise<string> {
  const id = ids.next('key');
  await tx
    .insertInto('api_keys')
    .values({
      id,
      tenant_id: tenantId ?? null,
      user_id: null,
      scopes: '["*"]',
      role: tenantId === undefined ? 'operator' : 'member',
      name,
      hmac: hmacOf(key.reveal(), hmacKey),
      created_at: at,
      expires_at: null,
      revoked_at: null,
    })
    .onConflict((conflict) => conflict.column('hmac').doNothing())
    .execute();
  return id;
}

/** Errors: `auth.invalid` for a key that is unknown or revoked. */
export async function authenticate(read: Reader, presented: Secret, hmacKey: Secret): Promise<Caller> {
  // The lookup goes by HMAC: how long it takes says nothing about the key.
  const row = await read
    .selectFrom('api_keys')
    .select(['id', 'role', 'tenant_id'])
    .where('hmac', '=', hmacOf(presented.reveal(), hmacKey))
    .where('revoked_at', 'is', null)
    .executeTakeFirst();
  if (row === undefined) throw new RackstartError('auth.invalid', 'This API key is not valid.');
  if (row.role === 'operator') return { role: 'operator', keyId: row.id };
  if (row.tenant_id === null) throw new RackstartError('internal', `Key ${row.id} has no tenant.`);
  return { role: 'member', keyId: row.id, tenantId: row.tenant_id };
}

/** Whether a key that proved who called is valid still. */
export async function isStillValid(read: Reader, id: string): Promise<boolean> {
  const row = await read
    .selectFrom('api_keys')
    .select('id')
    .where('id', '=', id)
    .where('revoked_at', 'is', null)
    .executeTakeFirst();
  return row !== undefined;
}

/** False when it was revoked before, and stays so. Errors: `not-found`. */
export async function revokeApiKey(tx: Tx, id: string, at: Millis): Promise<boolean> {
  const { numUpdatedRows } = await tx
    .updateTable('api_keys')
    .set({ revoked_at: at })
    .where('id', '=', id)
    .where('revoked_at', 'is', null)
    .executeTakeFirst();
  if (numUpdatedRows > 0n) return true;
  const known = await tx.selectFrom('api_keys').select('id').where('id', '=', id).executeTakeFirst();
  if (known === undefined) throw new RackstartError('not-found', `There is no API key ${id}.`);
  return false;
}

function hmacOf(key: string, hmacKey: Secret): string {
  return createHmac('sha256', hmacKey.reveal()).update(key).digest('hex');
}
