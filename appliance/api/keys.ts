import { Type } from 'typebox';
import type { Static } from 'typebox';

import type { EventLog } from '../events/event-log.ts';
import type { Clock, Millis } from '../kernel/clock.ts';
import { HOUR, SECOND } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Ids } from '../kernel/ids.ts';
import type { Secret } from '../kernel/secret.ts';
import type { ApiKeyRow } from '../store/schema.ts';
import type { Reader, Store } from '../store/store.ts';
import type { Caller, NewApiKey } from '../tenants/api-key.ts';
import { findApiKey, issueApiKey, listApiKeys, revokeApiKey, rotateApiKey } from '../tenants/api-key.ts';
import type { Role, Scope } from '../tenants/scopes.ts';
import { allScopes, covers, isScope, meaningOf } from '../tenants/scopes.ts';
import { findUser } from '../tenants/users.ts';
import { doneBy, tenantFor, tenantOf } from './auth.ts';
import { Id, IdParams, MaybeTimestamp, Name, Timestamp, iso, maybeIso, problems, strict } from './schemas.ts';
import type { Api } from './typed-api.ts';
import { invalid } from './unique.ts';
import { RoleOf, roleFor } from './users.ts';

export interface KeyRouteDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly apiKeyHmac: Secret;
}

const ScopeName = Type.Unsafe<Scope>({
  type: 'string',
  enum: allScopes,
  description: allScopes.map((scope) => `\`${scope}\`: ${meaningOf(scope)}`).join('; '),
});

const NewKey = Type.Object(
  {
    name: Name,
    tenant: Type.Optional(Id),
    user: Type.Optional(Id),
    role: Type.Optional(RoleOf),
    scopes: Type.Optional(Type.Array(ScopeName, { minItems: 1, maxItems: allScopes.length, uniqueItems: true })),
    expiresAt: Type.Optional(Timestamp),
  },
  strict,
);

const ApiKey = Type.Object({
  id: Id,
  name: Type.String(),
  role: Type.String(),
  tenant: Type.Union([Id, Type.Null()]),
  user: Type.Union([Id, Type.Null()]),
  scopes: Type.Array(Type.String()),
  createdAt: Timestamp,
  expiresAt: MaybeTimestamp,
  revokedAt: MaybeTimestamp,
});

const Overlap = Type.Object(
  {
    overlapSeconds: Type.Integer({
      minimum: 0,
      maximum: (30 * 24 * HOUR) / SECOND,
      default: 0,
      description: 'For how long the secrets before it are valid still.',
    }),
  },
  strict,
);

const Shown = Type.Object({ id: Id, key: Type.String({ description: 'The secret. It is shown this once.' }) });
const tags = ['API keys'];

/** What people and programs call with. Whoever issues keys hands out no more than their own key may. */
export function keyRoutes(api: Api, { store, events, ids, clock, apiKeyHmac }: KeyRouteDeps): void {
  const deps = () => ({ ids, hmacKey: apiKeyHmac, at: clock.now() });
  api.post(
    '/api-keys',
    {
      config: { right: 'keys:write' },
      schema: {
        tags,
        summary: 'Issue an API key for a user, for a tenant, or (without either) for who works for no tenant',
        body: NewKey,
        response: { 201: Shown, ...problems },
      },
    },
    async (request, reply) => {
      const { caller, body } = request;
      const { id, key } = await store.transaction(async (tx) => {
        const asked = await checked(tx, caller, body, clock.now());
        const issued = await issueApiKey(tx, asked, deps());
        const { tenantId, userId = null, role, scopes } = asked;
        const data = { keyId: issued.id, name: asked.name, userId, role, scopes };
        await events.append(tx, 'api-key.created', { key: issued.id, tenantId, ...doneBy(request), data });
        return issued;
      });
      return reply.code(201).send({ id, key: key.reveal() });
    },
  );
  api.get(
    '/api-keys',
    {
      config: { right: 'keys:read' },
      schema: {
        tags,
        summary: 'List API keys, the oldest first; what is secret of them nobody knows',
        response: { 200: Type.Object({ keys: Type.Array(ApiKey) }), ...problems },
      },
    },
    async (request) => ({ keys: (await listApiKeys(store.read, tenantOf(request.caller))).map(present) }),
  );
  api.post(
    '/api-keys/:id/rotate',
    {
      config: { right: 'keys:write' },
      schema: {
        tags,
        summary: 'Give an API key a new secret',
        params: IdParams,
        body: Overlap,
        response: { 200: Shown, ...problems },
      },
    },
    async (request) => {
      const { id } = request.params;
      const { overlapSeconds } = request.body;
      const key = await store.transaction(async (tx) => {
        const { tenant_id, scopes } = await findApiKey(tx, id, tenantOf(request.caller));
        mayHandOut(request.caller, scopesOf(scopes));
        const secret = await rotateApiKey(tx, id, overlapSeconds * SECOND, deps());
        const about = { key: id, tenantId: tenant_id ?? undefined, ...doneBy(request) };
        await events.append(tx, 'api-key.rotated', { ...about, data: { keyId: id, overlapSeconds } });
        return secret;
      });
      return { id, key: key.reveal() };
    },
  );
  api.delete(
    '/api-keys/:id',
    {
      config: { right: 'keys:write' },
      schema: { tags, summary: 'Revoke an API key', params: IdParams, response: { 204: Type.Null(), ...problems } },
    },
    async (request, reply) => {
      const { id } = request.params;
      await store.transaction(async (tx) => {
        const { tenant_id } = await findApiKey(tx, id, tenantOf(request.caller));
        if (!(await revokeApiKey(tx, id, clock.now()))) return;
        const about = { key: id, tenantId: tenant_id ?? undefined, ...doneBy(request) };
        await events.append(tx, 'api-key.revoked', { ...about, data: { keyId: id } });
      });
      return reply.code(204).send(null);
    },
  );
}

type Checked = NewApiKey & { readonly role: Role; readonly scopes: readonly Scope[] };

/** Errors: `request.invalid` field by field, `auth.forbidden`. */
async function checked(read: Reader, caller: Caller, body: Static<typeof NewKey>, now: Millis): Promise<Checked> {
  const { name, scopes = ['*'] } = body;
  mayHandOut(caller, scopes);
  const expiresAt = body.expiresAt === undefined ? undefined : Date.parse(body.expiresAt);
  // A leap second is a time that the schema knows and Date does not.
  if (expiresAt !== undefined && !(expiresAt > now)) throw invalid('/expiresAt', 'This is no time to come.');
  return { name, scopes, expiresAt, ...(await bearer(read, caller, body)) };
}

/** Whose key it becomes. */
async function bearer(read: Reader, caller: Caller, { tenant, user: userId, role }: Static<typeof NewKey>) {
  if (userId === undefined) {
    const ofNoTenant = tenant === undefined && tenantOf(caller) === undefined;
    const tenantId = ofNoTenant ? undefined : await tenantFor(caller, tenant, read);
    return { tenantId, role: roleFor(tenantId, role ?? (ofNoTenant ? 'operator' : 'member')) };
  }
  for (const [field, said] of Object.entries({ tenant, role })) {
    if (said !== undefined) throw invalid(`/${field}`, 'The user says this.');
  }
  const user = await userNamed(read, userId, tenantOf(caller));
  return { tenantId: user.tenant_id ?? undefined, userId, role: user.role };
}

async function userNamed(read: Reader, id: string, tenantId: string | undefined) {
  const user = await findUser(read, id, tenantId);
  if (user === undefined) throw invalid('/user', 'There is no such user.');
  if (user.disabled_at !== null) throw invalid('/user', 'This user is disabled.');
  return user;
}

function mayHandOut(caller: Caller, scopes: readonly Scope[]): void {
  if (!covers(caller.scopes, scopes)) {
    throw new RackstartError('auth.forbidden', 'A key hands out no scope that it does not have.');
  }
}

function scopesOf(json: string): Scope[] {
  return (JSON.parse(json) as unknown[]).filter(isScope);
}

function present({ id, name, role, tenant_id, user_id, scopes, ...at }: ApiKeyRow) {
  return {
    id,
    name,
    role,
    tenant: tenant_id,
    user: user_id,
    scopes: scopesOf(scopes),
    createdAt: iso(at.created_at),
    expiresAt: maybeIso(at.expires_at),
    revokedAt: maybeIso(at.revoked_at),
  };
}
