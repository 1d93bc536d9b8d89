import { Type } from 'typebox';

import type { EventLog } from '../events/event-log.ts';
import type { Clock } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Ids } from '../kernel/ids.ts';
import type { UserRow } from '../store/schema.ts';
import type { Reader, Store } from '../store/store.ts';
import type { Role } from '../tenants/scopes.ts';
import { addUser, disableUser, findUser, listUsers } from '../tenants/users.ts';
import { doneBy, tenantFor, tenantOf } from './auth.ts';
import { Created, Id, IdParams, MaybeTimestamp, Name, Timestamp, iso, maybeIso, problems, strict } from './schemas.ts';
import type { Api } from './typed-api.ts';
import { invalid } from './unique.ts';

export interface UserRouteDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly clock: Clock;
  readonly ids: Ids;
}

export const RoleOf = Type.Union(
  [Type.Literal('operator'), Type.Literal('tenant-admin'), Type.Literal('member'), Type.Literal('auditor')],
  {
    description:
      'operator: everything. tenant-admin: everything of its tenant. member: servers of its tenant. auditor: reads, ' +
      'of its tenant or, without one, of all.',
  },
);

const NewUserBody = Type.Object(
  {
    name: Name,
    role: RoleOf,
    email: Type.Optional(Type.String({ format: 'email', maxLength: 254 })),
    tenant: Type.Optional(Id),
  },
  strict,
);

const User = Type.Object({
  id: Id,
  name: Type.String(),
  role: Type.String(),
  tenant: Type.Union([Id, Type.Null()]),
  email: Type.Union([Type.String(), Type.Null()]),
  createdAt: Timestamp,
  disabledAt: MaybeTimestamp,
});

const tags = ['users'];

/** People, whom API keys are issued for: a tenant's own, and those who work for none. */
export function userRoutes(api: Api, { store, events, ids, clock }: UserRouteDeps): void {
  const { read } = store;
  api.post(
    '/users',
    {
      config: { right: 'users:write' },
      schema: {
        tags,
        summary: 'Add a user; of a tenant, or (an operator, an auditor of all) of none',
        body: NewUserBody,
        response: { 201: Created, ...problems },
      },
    },
    async (request, reply) => {
      const { name, email, tenant } = request.body;
      const { caller } = request;
      const ofNoTenant = tenant === undefined && tenantOf(caller) === undefined;
      const id = ids.next('usr');
      await store.transaction(async (tx) => {
        const tenantId = ofNoTenant ? undefined : await tenantFor(caller, tenant, tx);
        const role = roleFor(tenantId, request.body.role);
        const added = await addUser(tx, { id, tenantId, name, email, role }, clock.now());
        if (!added) throw invalid('/name', 'This is taken.');
        const data = { userId: id, name, role };
        await events.append(tx, 'user.created', { key: id, tenantId, ...doneBy(request), data });
      });
      return reply.code(201).send({ id });
    },
  );
  api.get(
    '/users',
    {
      config: { right: 'users:read' },
      schema: {
        tags,
        summary: 'List users, by name',
        response: { 200: Type.Object({ users: Type.Array(User) }), ...problems },
      },
    },
    async (request) => ({ users: (await listUsers(read, tenantOf(request.caller))).map(present) }),
  );
  api.get(
    '/users/:id',
    {
      config: { right: 'users:read' },
      schema: { tags, summary: 'Show a user', params: IdParams, response: { 200: User, ...problems } },
    },
    async (request) => present(await requireUser(read, request.params.id, tenantOf(request.caller))),
  );
  api.post(
    '/users/:id/disable',
    {
      config: { right: 'users:write' },
      schema: {
        tags,
        summary: 'Disable a user: none of its API keys is valid any more',
        params: IdParams,
        response: { 200: User, ...problems },
      },
    },
    async (request) => {
      const { id } = request.params;
      const own = tenantOf(request.caller);
      await store.transaction(async (tx) => {
        const { tenant_id } = await requireUser(tx, id, own);
        if (!(await disableUser(tx, id, clock.now()))) return;
        const about = { key: id, tenantId: tenant_id ?? undefined, ...doneBy(request) };
        await events.append(tx, 'user.disabled', { ...about, data: { userId: id } });
      });
      return present(await requireUser(read, id, own));
    },
  );
}

/** Errors: `request.invalid` about `/role`, where the role does not go with working for a tenant, or for none. */
export function roleFor(tenantId: string | undefined, role: Role): Role {
  if (tenantId !== undefined && role === 'operator') throw invalid('/role', 'An operator works for no tenant.');
  if (tenantId === undefined && (role === 'tenant-admin' || role === 'member')) {
    throw invalid('/role', 'This is a role in a tenant.');
  }
  return role;
}

async function requireUser(read: Reader, id: string, tenantId: string | undefined): Promise<UserRow> {
  const user = await findUser(read, id, tenantId);
  if (user === undefined) throw new RackstartError('not-found', `There is no user ${id}.`);
  return user;
}

function present({ id, name, role, tenant_id, email, created_at, disabled_at }: UserRow) {
  const times = { createdAt: iso(created_at), disabledAt: maybeIso(disabled_at) };
  return { id, name, role, tenant: tenant_id, email, ...times };
}
