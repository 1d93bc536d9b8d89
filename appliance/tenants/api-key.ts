import { createHmac } from 'node:crypto';

import type { Millis } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Ids } from '../kernel/ids.ts';
import { Secret } from '../kernel/secret.ts';
import type { ApiKeyRow } from '../store/schema.ts';
import type { Reader, Tx } from '../store/store.ts';
import type { Role, Scope, Standing } from './scopes.ts';
import { isScope } from './scopes.ts';

/** Who calls, as its key says. */
export interface Caller extends Standing {
  readonly keyId: string;
  /** Which of the key's secrets it showed. */
  readonly generation: number;
  /** Undefined for a program's key. */
  readonly userId: string | undefined;
}

export interface NewApiKey {
  readonly name: string;
  /** Undefined for who works for no tenant. */
  readonly tenantId?: string | undefined;
  readonly userId?: string | undefined;
  /** A member of its tenant unless told; without a tenant an operator. */
  readonly role?: Role | undefined;
  /** All that the role may, unless told. */
  readonly scopes?: readonly Scope[] | undefined;
  readonly expiresAt?: Millis | undefined;
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
  const id = deps.ids.next('key');
  await insertKey(tx, id, asked, deps.at);
  await insertSecret(tx, { keyId: id, generation: 1, key }, deps);
  return { id, key };
}

export function newApiKey(ids: Ids): Secret {
  return new Secret(`rackstart_${ids.random(SECRET_BYTES).toString('hex')}`);
}

/** Makes a key valid that was made elsewhere. One that was ever known, revoked, rotated or not, stays as it is. */
export async function adoptApiKey(tx: Tx, asked: NewApiKey, key: Secret, deps: KeyDeps): Promise<void> {
  const known = await tx
    .selectFrom('api_key_secrets')
    .select('key_id')
    .where('hmac', '=', hmacOf(key.reveal(), deps.hmacKey))
    .executeTakeFirst();
  if (known !== undefined) return;
  const id = deps.ids.next('key');
  await insertKey(tx, id, asked, deps.at);
  await insertSecret(tx, { keyId: id, generation: 1, key }, deps);
}

/**
 * Errors: `auth.invalid` for what was never a key of ours; `auth.revoked`, `auth.disabled` (its user) and `auth.expired` (also
 * for a secret that was rotated) for what was one: only who holds the secret hears of that.
 */
export async function authenticate(read: Reader, presented: Secret, { hmacKey, at }: AuthDeps): Promise<Caller> {
  // The lookup goes by HMAC: how long it takes says nothing about the key.
  const row = await keyStates(read)
    .select(['api_keys.role', 'api_keys.tenant_id', 'user_id', 'scopes'])
    .where('hmac', '=', hmacOf(presented.reveal(), hmacKey))
    .executeTakeFirst();
  if (row === undefined) throw new RackstartError('auth.invalid', 'This API key is not valid.');
  const ended = endOf(row, at);
  if (ended !== undefined) throw new RackstartError(ended, ENDED[ended]);
  const { id, generation, role, tenant_id, user_id } = row;
  const isForFleet = role === 'operator' || (role === 'auditor' && tenant_id === null);
  if (isForFleet !== (tenant_id === null)) throw new RackstartError('internal', `Key ${id} has no tenant.`);
  const scopes = (JSON.parse(row.scopes) as unknown[]).filter(isScope);
  return { keyId: id, generation, role, tenantId: tenant_id ?? undefined, userId: user_id ?? undefined, scopes };
}

export interface AuthDeps {
  readonly hmacKey: Secret;
  readonly at: Millis;
}

/** Whether the key that proved who called is valid still, and the secret that it was proved with. */
export async function isStillValid(read: Reader, { keyId, generation }: Caller, at: Millis): Promise<boolean> {
  const row = await keyStates(read)
    .where('api_keys.id', '=', keyId)
    .where('generation', '=', generation)
    .executeTakeFirst();
  return row !== undefined && endOf(row, at) === undefined;
}

/** A tenant's, or everybody's; the oldest first. */
export function listApiKeys(read: Reader, tenantId: string | undefined): Promise<ApiKeyRow[]> {
  return read
    .selectFrom('api_keys')
    .selectAll()
    .$if(tenantId !== undefined, (query) => query.where('tenant_id', '=', tenantId ?? ''))
    .orderBy('created_at')
    .orderBy('id')
    .execute();
}

/** Errors: `not-found`; another tenant's key is not there either. */
export async function findApiKey(read: Reader, id: string, tenantId: string | undefined): Promise<ApiKeyRow> {
  const row = await read
    .selectFrom('api_keys')
    .selectAll()
    .where('id', '=', id)
    .$if(tenantId !== undefined, (query) => query.where('tenant_id', '=', tenantId ?? ''))
    .executeTakeFirst();
  if (row === undefined) throw new RackstartError('not-found', `There is no API key ${id}.`);
  return row;
}

/** False when it was revoked before, and stays so. */
export async function revokeApiKey(tx: Tx, id: string, at: Millis): Promise<boolean> {
  const { numUpdatedRows } = await tx
    .updateTable('api_keys')
    .set({ revoked_at: at })
    .where('id', '=', id)
    .where('revoked_at', 'is', null)
    .executeTakeFirst();
  return numUpdatedRows > 0n;
}

/**
 * Gives a key a new secret; those before it are valid for `overlap` more at the most, so that programs can change over.
 * Errors: `state.conflict` for a key that is revoked or has expired.
 */
export async function rotateApiKey(tx: Tx, id: string, overlap: Millis, deps: KeyDeps): Promise<Secret> {
  const { at } = deps;
  // An update that changes nothing locks the key: who rotates at the same time comes after us.
  const { numUpdatedRows } = await tx
    .updateTable('api_keys')
    .set((eb) => ({ name: eb.ref('name') }))
    .where('id', '=', id)
    .where('revoked_at', 'is', null)
    .where((eb) => eb.or([eb('expires_at', 'is', null), eb('expires_at', '>', at)]))
    .executeTakeFirst();
  if (numUpdatedRows === 0n) throw new RackstartError('state.conflict', `API key ${id} is not valid any more.`);
  const { last } = await tx
    .selectFrom('api_key_secrets')
    .select(({ fn }) => fn.max('generation').as('last'))
    .where('key_id', '=', id)
    .executeTakeFirstOrThrow();
  await tx
    .updateTable('api_key_secrets')
    .set({ valid_until: at + overlap })
    .where('key_id', '=', id)
    .where((eb) => eb.or([eb('valid_until', 'is', null), eb('valid_until', '>', at + overlap)]))
    .execute();
  const key = newApiKey(deps.ids);
  await insertSecret(tx, { keyId: id, generation: last + 1, key }, deps);
  return key;
}

async function insertKey(tx: Tx, id: string, asked: NewApiKey, at: Millis): Promise<void> {
  const { name, tenantId, userId, role, scopes = ['*'], expiresAt } = asked;
  await tx
    .insertInto('api_keys')
    .values({
      id,
      tenant_id: tenantId ?? null,
      user_id: userId ?? null,
      role: role ?? (tenantId === undefined ? 'operator' : 'member'),
      scopes: JSON.stringify(scopes),
      name,
      created_at: at,
      expires_at: expiresAt ?? null,
      revoked_at: null,
    })
    .execute();
}

async function insertSecret(
  tx: Tx,
  { keyId, generation, key }: { keyId: string; generation: number; key: Secret },
  { hmacKey, at }: KeyDeps,
): Promise<void> {
  await tx
    .insertInto('api_key_secrets')
    .values({ hmac: hmacOf(key.reveal(), hmacKey), key_id: keyId, generation, created_at: at, valid_until: null })
    .execute();
}

/** Keys, each as often as it had secrets, with all that may end one. */
function keyStates(read: Reader) {
  return read
    .selectFrom('api_keys')
    .innerJoin('api_key_secrets', 'api_key_secrets.key_id', 'api_keys.id')
    .leftJoin('users', 'users.id', 'api_keys.user_id')
    .select(['api_keys.id', 'generation', 'revoked_at', 'expires_at', 'valid_until', 'users.disabled_at']);
}

interface KeyState {
  readonly revoked_at: Millis | null;
  readonly expires_at: Millis | null;
  readonly valid_until: Millis | null;
  readonly disabled_at: Millis | null;
}

type End = 'auth.revoked' | 'auth.disabled' | 'auth.expired';

const ENDED: Readonly<Record<End, string>> = {
  'auth.revoked': 'This API key was revoked.',
  'auth.disabled': 'The user of this API key is disabled.',
  'auth.expired': 'This API key has expired, or was rotated.',
};

function endOf({ revoked_at, expires_at, valid_until, disabled_at }: KeyState, at: Millis): End | undefined {
  if (revoked_at !== null) return 'auth.revoked';
  if (disabled_at !== null) return 'auth.disabled';
  return Math.min(expires_at ?? Infinity, valid_until ?? Infinity) <= at ? 'auth.expired' : undefined;
}

function hmacOf(key: string, hmacKey: Secret): string {
  return createHmac('sha256', hmacKey.reveal()).update(key).digest('hex');
}
