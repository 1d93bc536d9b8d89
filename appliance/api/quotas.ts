import { sql } from 'kysely';
import { Type } from 'typebox';

import { RackstartError } from '../kernel/errors.ts';
import type { QuotaRequestRow, QuotaRow } from '../store/schema.ts';
import type { Reader, Store } from '../store/store.ts';
import type { Caller } from '../tenants/api-key.ts';
import type { QuotaDeps } from '../tenants/quota-requests.ts';
import { askForQuota, askedLimits, decideQuota, setQuota } from '../tenants/quota-requests.ts';
import type { Holder } from '../tenants/quota.ts';
import { limitsOf, usedOf } from '../tenants/quota.ts';
import { doneBy } from './auth.ts';
import { Created, Id, IdParams, MaybeTimestamp, Timestamp, iso, maybeIso, problems, strict } from './schemas.ts';
import type { Api } from './typed-api.ts';

export interface QuotaRouteDeps extends QuotaDeps {
  readonly store: Store;
}

const Kind = Type.Union([Type.Literal('tenant'), Type.Literal('project'), Type.Literal('user')]);

const Figures = Type.Object({
  servers: Type.Integer(),
  cores: Type.Integer(),
  memoryMib: Type.Integer(),
  diskGib: Type.Integer(),
});

const Quota = Type.Object({
  kind: Kind,
  id: Id,
  name: Type.String({ description: 'What the tenant, project or user is called.' }),
  tenant: Id,
  limits: Figures,
  used: Figures,
});

const Limit = Type.Integer({ minimum: 0, maximum: 1_000_000_000 });
const SomeLimits = {
  servers: Type.Optional(Limit),
  cores: Type.Optional(Limit),
  memoryMib: Type.Optional(Limit),
  diskGib: Type.Optional(Limit),
};
const Reason = Type.String({ minLength: 1, maxLength: 500, description: 'Kept with the event.' });

const QuotaRequest = Type.Object({
  id: Id,
  kind: Kind,
  holder: Id,
  name: Type.String(),
  tenant: Id,
  asked: Type.Object(SomeLimits),
  reason: Type.String(),
  state: Type.Union([Type.Literal('pending'), Type.Literal('approved'), Type.Literal('denied')]),
  requestedBy: Id,
  decidedBy: Type.Union([Id, Type.Null()]),
  decision: Type.Union([Type.String(), Type.Null()], { description: 'What the operator said to it.' }),
  createdAt: Timestamp,
  decidedAt: MaybeTimestamp,
});

const tags = ['quotas'];

/**
 * How much tenants, projects and users may hold. A member sees its tenant, the tenant's projects and itself; who looks after a
 * tenant also sees its users; operators see all, set limits, and decide who asked for more.
 */
export function quotaRoutes(api: Api, deps: QuotaRouteDeps): void {
  quotas(api, deps);
  requests(api, deps);
}

function quotas(api: Api, deps: QuotaRouteDeps): void {
  const { store } = deps;
  const { read } = store;
  api.get(
    '/quotas',
    {
      config: { right: 'quotas:read' },
      schema: {
        tags,
        summary: 'List quotas and what is used of them',
        querystring: Type.Object({ kind: Type.Optional(Kind), tenant: Type.Optional(Id) }, strict),
        response: { 200: Type.Object({ quotas: Type.Array(Quota) }), ...problems },
      },
    },
    async ({ caller, query: { kind, tenant } }) => {
      const rows = await quotasSeenBy(read, caller)
        .$if(kind !== undefined, (query) => query.where('holder_kind', '=', kind ?? 'tenant'))
        .$if(tenant !== undefined, (query) => query.where('tenant_id', '=', tenant ?? ''))
        .execute();
      return { quotas: rows.map(presentQuota) };
    },
  );
  api.get(
    '/quotas/:kind/:id',
    {
      config: { right: 'quotas:read' },
      schema: {
        tags,
        summary: 'Show a quota and what is used of it',
        params: Type.Object({ kind: Kind, id: Id }, strict),
        response: { 200: Quota, ...problems },
      },
    },
    async ({ caller, params }) => presentQuota(await find(read, caller, params)),
  );
  api.patch(
    '/quotas/:kind/:id',
    {
      config: { right: 'quotas:write' },
      schema: {
        tags,
        summary: 'Set limits. One below what is used takes nothing away; it admits nothing more until there is room',
        params: Type.Object({ kind: Kind, id: Id }, strict),
        body: Type.Object({ ...SomeLimits, reason: Reason }, { ...strict, minProperties: 2 }),
        response: { 200: Quota, ...problems },
      },
    },
    async (request) => {
      const { caller, params, body } = request;
      const { reason, ...limits } = body;
      await store.transaction((tx) =>
        setQuota(tx, deps, { holder: params, limits, deed: { ...doneBy(request), reason } }),
      );
      return presentQuota(await find(read, caller, params));
    },
  );
}

function requests(api: Api, deps: QuotaRouteDeps): void {
  const { store } = deps;
  const { read } = store;
  api.post(
    '/quota-requests',
    {
      config: { right: 'quotas:ask' },
      schema: {
        tags,
        summary: 'Ask for higher limits; one that is not decided a holder',
        body: Type.Object({ kind: Kind, holder: Id, ...SomeLimits, reason: Reason }, { ...strict, minProperties: 4 }),
        response: { 201: Created, ...problems },
      },
    },
    async (request, reply) => {
      const { kind, holder: id, reason, ...limits } = request.body;
      const holder = { kind, id };
      const asked = await store.transaction(async (tx) => {
        await find(tx, request.caller, holder);
        return askForQuota(tx, deps, { holder, limits, deed: { ...doneBy(request), reason } });
      });
      return reply.code(201).send({ id: asked });
    },
  );
  api.get(
    '/quota-requests',
    {
      config: { right: 'quotas:read' },
      schema: {
        tags,
        summary: 'List what was asked for, the newest first',
        querystring: Type.Object(
          {
            state: Type.Optional(QuotaRequest.properties.state),
            limit: Type.Integer({ minimum: 1, maximum: 1000, default: 100 }),
          },
          strict,
        ),
        response: { 200: Type.Object({ requests: Type.Array(QuotaRequest) }), ...problems },
      },
    },
    async ({ caller, query: { state, limit } }) => {
      const rows = await requestsSeenBy(read, caller)
        .$if(state !== undefined, (query) => query.where('state', '=', state ?? 'pending'))
        .limit(limit)
        .execute();
      return { requests: rows.map(presentRequest) };
    },
  );
  api.post(
    '/quota-requests/:id/decision',
    {
      config: { right: 'quotas:write' },
      schema: {
        tags,
        summary: 'Approve or deny, once; approved limits hold at once',
        params: IdParams,
        body: Type.Object(
          { decision: Type.Union([Type.Literal('approve'), Type.Literal('deny')]), reason: Reason },
          strict,
        ),
        response: { 200: QuotaRequest, ...problems },
      },
    },
    async (request) => {
      const { id } = request.params;
      const { decision, reason } = request.body;
      const deed = { ...doneBy(request), reason };
      await store.transaction((tx) => decideQuota(tx, deps, { id, decision, deed }));
      return presentRequest(await requestsSeenBy(read, request.caller).where('id', '=', id).executeTakeFirstOrThrow());
    },
  );
}

/** Errors: `not-found`, also for what the caller may not see. */
async function find(read: Reader, caller: Caller, { kind, id }: Holder) {
  const row = await quotasSeenBy(read, caller)
    .where('holder_kind', '=', kind)
    .where('holder_id', '=', id)
    .executeTakeFirst();
  if (row === undefined) throw new RackstartError('not-found', `There is no quota of a ${kind} ${id}.`);
  return row;
}

function quotasSeenBy(read: Reader, caller: Caller) {
  const columns = read.selectFrom('quotas').selectAll().select(holderName);
  return columns.where(seenBy(caller)).orderBy('tenant_id').orderBy('holder_kind').orderBy('name');
}

function requestsSeenBy(read: Reader, caller: Caller) {
  const columns = read.selectFrom('quota_requests').selectAll().select(holderName);
  return columns.where(seenBy(caller)).orderBy('created_at', 'desc').orderBy('id', 'desc');
}

// Both tables name a holder in the same columns.
const holderName = sql<string>`coalesce((select name from tenants where id = holder_id),
  (select name from projects where id = holder_id), (select name from users where id = holder_id))`.as('name');

function seenBy({ tenantId, role, userId }: Caller) {
  if (tenantId === undefined) return sql<boolean>`1 = 1`;
  if (role !== 'member') return sql<boolean>`tenant_id = ${tenantId}`;
  return sql<boolean>`tenant_id = ${tenantId} and (holder_kind <> 'user' or holder_id = ${userId ?? ''})`;
}

function presentQuota(row: QuotaRow & { name: string }) {
  const { holder_kind: kind, holder_id: id, tenant_id: tenant, name } = row;
  return { kind, id, name, tenant, limits: limitsOf(row), used: usedOf(row) };
}

function presentRequest(row: QuotaRequestRow & { name: string }) {
  return {
    id: row.id,
    kind: row.holder_kind,
    holder: row.holder_id,
    name: row.name,
    tenant: row.tenant_id,
    asked: askedLimits(row),
    reason: row.reason,
    state: row.state,
    requestedBy: row.requested_by,
    decidedBy: row.decided_by,
    decision: row.decision,
    createdAt: iso(row.created_at),
    decidedAt: maybeIso(row.decided_at),
  };
}
