import { Type } from 'typebox';

import type { EventLog } from '../events/event-log.ts';
import type { Clock } from '../kernel/clock.ts';
import type { Ids } from '../kernel/ids.ts';
import type { Secret } from '../kernel/secret.ts';
import type { Reader, Store } from '../store/store.ts';
import { issueApiKey, revokeApiKey } from '../tenants/api-key.ts';
import { openQuota } from '../tenants/quota.ts';
import type { Api } from './typed-api.ts';
import { operatorOnly } from './auth.ts';
import { Created, Id, IdParams, MaybeTimestamp, Name, Timestamp, iso, maybeIso, problems, strict } from './schemas.ts';
import { invalid, unique } from './unique.ts';

export interface TenantRouteDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly apiKeyHmac: Secret;
}

/** Who servers are for, and the keys they and operators call with; an operator's alone. */
export function tenantRoutes(api: Api, deps: TenantRouteDeps): void {
  tenants(api, deps);
  keys(api, deps);
}

function tenants(api: Api, { store, ids, clock }: TenantRouteDeps): void {
  const tags = ['tenants'];
  api.post(
    '/tenants',
    {
      ...operatorOnly,
      schema: {
        tags,
        summary: 'Add a tenant, with the default quota',
        body: Type.Object({ name: Name }, strict),
        response: { 201: Created, ...problems },
      },
    },
    async (request, reply) => {
      const id = ids.next('ten');
      const row = { id, name: request.body.name, created_at: clock.now() };
      await unique(store, 'name', async (tx) => {
        const inserted = await tx
          .insertInto('tenants')
          .values(row)
          .onConflict((conflict) => conflict.doNothing())
          .executeTakeFirst();
        if (inserted.numInsertedOrUpdatedRows === 1n) await openQuota(tx, { kind: 'tenant', id, tenantId: id });
        return inserted;
      });
      return reply.code(201).send({ id });
    },
  );
  api.get(
    '/tenants',
    {
      ...operatorOnly,
      schema: {
        tags,
        summary: 'List tenants',
        response: {
          200: Type.Object({
            tenants: Type.Array(Type.Object({ id: Id, name: Type.String(), createdAt: Timestamp })),
          }),
          ...problems,
        },
      },
    },
    async () => {
      const rows = await store.read.selectFrom('tenants').selectAll().orderBy('name').execute();
      return { tenants: rows.map(({ id, name, created_at }) => ({ id, name, createdAt: iso(created_at) })) };
    },
  );
}

function keys(api: Api, { store, events, ids, clock, apiKeyHmac }: TenantRouteDeps): void {
  const tags = ['API keys'];
  api.post(
    '/api-keys',
    {
      ...operatorOnly,
      schema: {
        tags,
        summary: 'Issue an API key; it is shown once. Without a tenant it is an operator’s',
        body: Type.Object({ name: Name, tenant: Type.Optional(Id) }, strict),
        response: { 201: Type.Object({ id: Id, key: Type.String() }), ...problems },
      },
    },
    async (request, reply) => {
      const { name, tenant } = request.body;
      const { id, key } = await store.transaction(async (tx) => {
        if (tenant !== undefined) await requireTenant(tx, tenant);
        const asked = { name, ...(tenant === undefined ? {} : { tenantId: tenant }) };
        return issueApiKey(tx, asked, { ids, hmacKey: apiKeyHmac, at: clock.now() });
      });
      return reply.code(201).send({ id, key: key.reveal() });
    },
  );
  api.get(
    '/api-keys',
    {
      ...operatorOnly,
      schema: {
        tags,
        summary: 'List API keys',
        response: {
          200: Type.Object({
            keys: Type.Array(
              Type.Object({
                id: Id,
                name: Type.String(),
                role: Type.String(),
                tenant: Type.Union([Id, Type.Null()]),
                createdAt: Timestamp,
                revokedAt: MaybeTimestamp,
              }),
            ),
          }),
          ...problems,
        },
      },
    },
    async () => {
      const rows = await store.read.selectFrom('api_keys').selectAll().orderBy('created_at').execute();
      return {
        keys: rows.map(({ id, name, role, tenant_id, created_at, revoked_at }) => ({
          id,
          name,
          role,
          tenant: tenant_id,
          createdAt: iso(created_at),
          revokedAt: maybeIso(revoked_at),
        })),
      };
    },
  );
  api.delete(
    '/api-keys/:id',
    {
      ...operatorOnly,
      schema: { tags, summary: 'Revoke an API key', params: IdParams, response: { 204: Type.Null(), ...problems } },
    },
    async (request, reply) => {
      const { id } = request.params;
      await store.transaction(async (tx) => {
        if (!(await revokeApiKey(tx, id, clock.now()))) return;
        const event = { key: id, actor: request.caller.keyId, data: { keyId: id } };
        await events.append(tx, 'api-key.revoked', event);
      });
      return reply.code(204).send(null);
    },
  );
}

/** Errors: `request.invalid` about `/tenant`. */
export async function requireTenant(read: Reader, id: string): Promise<void> {
  const tenant = await read.selectFrom('tenants').select('id').where('id', '=', id).executeTakeFirst();
  if (tenant === undefined) throw invalid('/tenant', 'There is no such tenant.');
}
