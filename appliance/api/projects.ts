import { Type } from 'typebox';

import type { EventLog } from '../events/event-log.ts';
import type { Clock } from '../kernel/clock.ts';
import type { Ids } from '../kernel/ids.ts';
import type { Store } from '../store/store.ts';
import { addProject, deleteProject, listProjects } from '../tenants/projects.ts';
import { doneBy, tenantFor, tenantOf } from './auth.ts';
import { Created, Id, IdParams, Name, Timestamp, iso, problems, strict } from './schemas.ts';
import type { Api } from './typed-api.ts';
import { invalid } from './unique.ts';

export interface ProjectRouteDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly clock: Clock;
  readonly ids: Ids;
}

const Project = Type.Object({ id: Id, name: Type.String(), tenant: Id, createdAt: Timestamp });
const tags = ['projects'];

/** What a tenant's servers are grouped by, and counted by for quotas. */
export function projectRoutes(api: Api, { store, events, ids, clock }: ProjectRouteDeps): void {
  api.post(
    '/projects',
    {
      config: { right: 'projects:write' },
      schema: {
        tags,
        summary: 'Add a project, with the default quota',
        body: Type.Object({ name: Name, tenant: Type.Optional(Id) }, strict),
        response: { 201: Created, ...problems },
      },
    },
    async (request, reply) => {
      const { name, tenant } = request.body;
      const id = ids.next('prj');
      await store.transaction(async (tx) => {
        const tenantId = await tenantFor(request.caller, tenant, tx);
        if (!(await addProject(tx, { id, tenantId, name }, clock.now()))) throw invalid('/name', 'This is taken.');
        const data = { projectId: id, name };
        await events.append(tx, 'project.created', { key: id, tenantId, ...doneBy(request), data });
      });
      return reply.code(201).send({ id });
    },
  );
  api.get(
    '/projects',
    {
      config: { right: 'projects:read' },
      schema: {
        tags,
        summary: 'List projects, by name',
        response: { 200: Type.Object({ projects: Type.Array(Project) }), ...problems },
      },
    },
    async (request) => {
      const rows = await listProjects(store.read, tenantOf(request.caller));
      return {
        projects: rows.map(({ id, name, tenant_id, created_at }) => {
          return { id, name, tenant: tenant_id, createdAt: iso(created_at) };
        }),
      };
    },
  );
  api.delete(
    '/projects/:id',
    {
      config: { right: 'projects:write' },
      schema: {
        tags,
        summary: 'Delete a project that has no servers',
        params: IdParams,
        response: { 204: Type.Null(), ...problems },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      await store.transaction(async (tx) => {
        const tenantId = tenantOf(request.caller);
        const { name, tenant_id } = await deleteProject(tx, id, { tenantId, at: clock.now() });
        const about = { key: id, tenantId: tenant_id, ...doneBy(request) };
        await events.append(tx, 'project.deleted', { ...about, data: { projectId: id, name } });
      });
      return reply.code(204).send(null);
    },
  );
}
