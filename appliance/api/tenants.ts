import { Type } from 'typebox';

import type { EventLog } from '../events/event-log.ts';
import type { Clock } from '../kernel/clock.ts';
import type { Ids } from '../kernel/ids.ts';
import type { Store } from '../store/store.ts';
import { addTenant } from '../tenants/tenants.ts';
import { doneBy, tenantOf } from './auth.ts';
import { Created, Id, Name, Timestamp, iso, problems, strict } from './schemas.ts';
import type { Api } from './typed-api.ts';
import { invalid } from './unique.ts';

export interface TenantRouteDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly clock: Clock;
  readonly ids: Ids;
}

const tags = ['tenants'];

/** Who servers are for. */
export function tenantRoutes(api: Api, { store, events, ids, clock }: TenantRouteDeps): void {
  api.post(
    '/tenants',
    {
      config: { right: 'tenants:write' },
      schema: {
        tags,
        summary: 'Add a tenant, with the default quota and the project `default`',
        body: Type.Object({ name: Name }, strict),
        response: { 201: Created, ...problems },
      },
    },
    async (request, reply) => {
      const { name } = request.body;
      const id = ids.next('ten');
      await store.transaction(async (tx) => {
        if (!(await addTenant(tx, { id, name }, { ids, at: clock.now() }))) throw invalid('/name', 'This is taken.');
        const event = { key: id, tenantId: id, ...doneBy(request), data: { tenantId: id, name } };
        await events.append(tx, 'tenant.created', event);
      });
      return reply.code(201).send({ id });
    },
  );
  api.get(
    '/tenants',
    {
      config: { right: 'tenants:read' },
      schema: {
        tags,
        summary: 'List tenants; who works for one sees that one',
        response: {
          200: Type.Object({
            tenants: Type.Array(Type.Object({ id: Id, name: Type.String(), createdAt: Timestamp })),
          }),
          ...problems,
        },
      },
    },
    async (request) => {
      const own = tenantOf(request.caller);
      const rows = await store.read
        .selectFrom('tenants')
        .selectAll()
        .$if(own !== undefined, (query) => query.where('id', '=', own ?? ''))
        .orderBy('name')
        .execute();
      return { tenants: rows.map(({ id, name, created_at }) => ({ id, name, createdAt: iso(created_at) })) };
    },
  );
}
