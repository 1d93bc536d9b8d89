import { Type } from 'typebox';

import type { TimelineEntry } from '../../pxe/timeline.ts';
import { parties } from '../machines/blame.ts';
import type { AdmitDeps } from '../requests/admit.ts';
import { admitServers } from '../requests/admit-batch.ts';
import { admitServer } from '../requests/admit.ts';
import { releaseServer } from '../requests/release.ts';
import { requestStates } from '../requests/request-states.ts';
import { stepStatuses, stepsInProgress } from '../requests/step-progress.ts';
import { serverTimeline } from '../requests/server-timeline.ts';
import type { ServerView } from '../requests/server-view.ts';
import { attemptInFront, listServers, viewServer } from '../requests/server-view.ts';
import type { Caller } from '../tenants/api-key.ts';
import { Diagnosis, presentDiagnosis } from './diagnosis.ts';
import type { Api } from './typed-api.ts';
import { doneBy, tenantFor, tenantOf } from './auth.ts';
import { Hostname, Id, IdParams, MaybeTimestamp, Name, Timestamp, iso, maybeIso, problems, strict } from './schemas.ts';

const SshKey = Type.String({
  minLength: 80,
  maxLength: 16_384,
  pattern: '^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)|sk-[a-z0-9@.-]+) [A-Za-z0-9+/]+={0,3}( [^\\r\\n]*)?$',
  description: 'OpenSSH public key, one line.',
});

const orderFields = {
  hostname: Hostname,
  region: Name,
  flavor: Name,
  image: Type.String({
    pattern: '^[a-z0-9][a-z0-9.-]{0,62}(:[A-Za-z0-9._-]{1,64})?$',
    description: 'name or name:version',
  }),
  sshKeys: Type.Array(SshKey, { minItems: 1, maxItems: 32, uniqueItems: true }),
  userData: Type.Optional(Type.String({ maxLength: 65_536, description: 'cloud-init user data' })),
  project: Type.Optional(Name),
  provider: Type.Optional(Name),
  cluster: Type.Optional(Name),
};

const NewServer = Type.Object(
  {
    ...orderFields,
    dependsOn: Type.Optional(
      Type.Array(Id, {
        maxItems: 32,
        uniqueItems: true,
        description:
          'Servers that must be completed before this one is begun. When one of them is lost before, so is this one.',
      }),
    ),
    tenant: Type.Optional(Id),
  },
  strict,
);

// An id, or a name, which has no underscore.
const Reference = Type.String({ minLength: 1, maxLength: 64, pattern: '^[A-Za-z0-9_.-]+$' });

const NewServers = Type.Object(
  {
    servers: Type.Array(
      Type.Object(
        {
          ...orderFields,
          name: Name,
          dependsOn: Type.Optional(
            Type.Array(Reference, {
              maxItems: 32,
              uniqueItems: true,
              description: 'Names of orders of this batch, and ids of servers.',
            }),
          ),
        },
        strict,
      ),
      { minItems: 1, maxItems: 100 },
    ),
    tenant: Type.Optional(Id),
  },
  strict,
);

const Failure = Type.Object({ code: Type.String(), message: Type.String(), step: Type.Optional(Type.String()) });

const Step = Type.Object({
  name: Type.String({ description: 'allocate, configure, activate or verify' }),
  status: Type.String({ enum: [...stepStatuses] }),
  attempts: Type.Integer({ description: 'How often it was tried.' }),
  startedAt: MaybeTimestamp,
  endedAt: MaybeTimestamp,
  reason: Type.Union([Type.Object({ code: Type.String(), message: Type.String() }), Type.Null()], {
    description: 'Why it failed, is tried again, or could not be rolled back.',
  }),
});

const Server = Type.Object({
  id: Id,
  tenant: Id,
  project: Type.String(),
  hostname: Type.String(),
  region: Type.String(),
  flavor: Type.String(),
  image: Type.String(),
  provider: Type.String({ description: 'What makes it: bare-metal, simulation …' }),
  cluster: Type.Union([Type.String(), Type.Null()], { description: 'Where, of a provider that has several places.' }),
  state: Type.String({ enum: Object.keys(requestStates) }),
  status: Type.String({ description: 'pending, provisioning, active, suspended, failed or gone' }),
  connection: Type.Union([
    Type.Object({
      username: Type.String(),
      addresses: Type.Array(Type.String()),
      hostKey: Type.Union([Type.String(), Type.Null()]),
      endpoints: Type.Optional(Type.Record(Type.String(), Type.String())),
    }),
    Type.Null(),
  ]),
  failure: Type.Union([Failure, Type.Null()]),
  dependsOn: Type.Array(Id),
  steps: Type.Array(Step, { description: 'The four steps, of the attempt that the server is, or is to be.' }),
  agent: Type.Union([
    Type.Object({ heartbeatAt: MaybeTimestamp, metrics: Type.Record(Type.String(), Type.Number()) }),
    Type.Null(),
  ]),
  attempts: Type.Array(
    Type.Object({
      number: Type.Integer(),
      path: Type.String(),
      outcome: Type.String(),
      blame: Type.Union([Type.String({ enum: [...parties] }), Type.Null()], {
        description: 'Whose fault it was that it failed; null where it has not, and where no machine was held.',
      }),
      diagnosis: Type.Union([Diagnosis, Type.Null()], {
        description: 'Why its boot failed, and what to do; null where none has, and for tenants.',
      }),
      machine: Type.Union([Type.String(), Type.Null()]),
      firmware: Type.Union([Type.String(), Type.Null()]),
      steps: Type.Array(
        Type.Object({
          name: Type.String(),
          state: Type.String(),
          tries: Type.Integer(),
          startedAt: Timestamp,
          endedAt: MaybeTimestamp,
        }),
      ),
    }),
  ),
  createdAt: Timestamp,
  completedAt: MaybeTimestamp,
  endedAt: MaybeTimestamp,
});

/** Stages, and everything that was seen, on one clock. */
export const Timeline = Type.Object({
  stages: Type.Array(
    Type.Object({
      name: Type.String(),
      startedAt: Timestamp,
      endedAt: MaybeTimestamp,
      facts: Type.Record(Type.String(), Type.String()),
    }),
  ),
  entries: Type.Array(
    Type.Object({
      at: Timestamp,
      source: Type.String(),
      name: Type.String(),
      detail: Type.Record(Type.String(), Type.Unknown()),
    }),
  ),
});

const tags = ['servers'];

/** What callers ask for, and what became of it. Who works for a tenant sees its servers, who works for none all. */
export function serverRoutes(api: Api, deps: AdmitDeps): void {
  const { store } = deps;
  const { read } = store;

  api.post(
    '/servers',
    {
      config: { right: 'servers:write' },
      schema: {
        tags,
        summary: 'Order a server',
        headers: Type.Object({ 'idempotency-key': Type.Optional(Type.String({ minLength: 1, maxLength: 255 })) }),
        body: NewServer,
        response: { 202: Server, ...problems },
      },
    },
    async (request, reply) => {
      const { tenant, ...order } = request.body;
      const idempotencyKey = request.headers['idempotency-key'];
      const id = await admitServer(deps, order, {
        tenantId: await tenantFor(request.caller, tenant, read),
        userId: request.caller.userId,
        ...doneBy(request),
        ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
      });
      return reply.code(202).send(present(await viewServer(read, id, tenantOf(request.caller)), request.caller));
    },
  );

  api.post(
    '/servers/batch',
    {
      config: { right: 'servers:write' },
      schema: {
        tags,
        summary: 'Order several servers that may depend on each other, all or none',
        body: NewServers,
        response: { 202: Type.Object({ servers: Type.Array(Server) }), ...problems },
      },
    },
    async (request, reply) => {
      const { tenant, servers } = request.body;
      const ids = await admitServers(deps, servers, {
        tenantId: await tenantFor(request.caller, tenant, read),
        userId: request.caller.userId,
        ...doneBy(request),
      });
      const views = await Promise.all(ids.map((id) => viewServer(read, id)));
      return reply.code(202).send({ servers: views.map((view) => present(view, request.caller)) });
    },
  );

  api.get(
    '/servers',
    {
      config: { right: 'servers:read' },
      schema: {
        tags,
        summary: 'List servers, newest first',
        querystring: Type.Object({ limit: Type.Integer({ minimum: 1, maximum: 1000, default: 100 }) }, strict),
        response: { 200: Type.Object({ servers: Type.Array(Server) }), ...problems },
      },
    },
    async (request) => {
      const servers = await listServers(read, tenantOf(request.caller), request.query.limit);
      return { servers: servers.map((view) => present(view, request.caller)) };
    },
  );

  api.get(
    '/servers/:id',
    {
      config: { right: 'servers:read' },
      schema: { tags, summary: 'Show a server', params: IdParams, response: { 200: Server, ...problems } },
    },
    async (request) => present(await viewServer(read, request.params.id, tenantOf(request.caller)), request.caller),
  );

  api.delete(
    '/servers/:id',
    {
      config: { right: 'servers:write' },
      schema: {
        tags,
        summary: 'Release a server, or cancel its request',
        params: IdParams,
        response: { 202: Server, ...problems },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      await releaseServer(deps, id, { tenantId: tenantOf(request.caller), ...doneBy(request) });
      return reply.code(202).send(present(await viewServer(read, id, tenantOf(request.caller)), request.caller));
    },
  );

  api.get(
    '/servers/:id/timeline',
    {
      config: { right: 'servers:read' },
      schema: {
        tags,
        summary: 'Everything seen of a deploy, on one clock; a download',
        params: IdParams,
        response: { 200: Timeline, ...problems },
      },
    },
    async (request, reply) => {
      const view = await viewServer(read, request.params.id, tenantOf(request.caller));
      const { stages, entries } = await serverTimeline(read, view);
      reply.header('content-disposition', `attachment; filename="${view.request.id}-timeline.json"`);
      return {
        stages: stages.map(({ name, startedAt, endedAt, facts }) => ({
          name,
          startedAt: iso(startedAt),
          endedAt: maybeIso(endedAt ?? null),
          facts,
        })),
        entries: entries.map((entry) => shownTo(request.caller, entry)),
      };
    },
  );
}

/** A tenant sees what happened and when; addresses, UUIDs and serial numbers of the fleet are its operator's. */
export function shownTo({ tenantId }: Pick<Caller, 'tenantId'>, { at, source, name, detail }: TimelineEntry) {
  const whole = tenantId === undefined || tenantsOwn.has(source);
  return { at: iso(at), source, name, detail: whole ? detail : {} };
}

const tenantsOwn: ReadonlySet<string> = new Set(['saga', 'agent']);

function present(view: ServerView, { tenantId }: Pick<Caller, 'tenantId'>) {
  const { request, status, flavor, image, region, project, connection, failure, dependsOn, attempts } = view;
  const inFront = attemptInFront(view);
  const agent = inFront?.agent;
  return {
    id: request.id,
    tenant: request.tenant_id,
    project,
    hostname: request.hostname,
    region,
    flavor,
    image,
    provider: request.provider,
    cluster: request.cluster,
    state: request.state,
    status,
    connection: connection && { ...connection, addresses: [...connection.addresses] },
    failure,
    dependsOn: [...dependsOn],
    steps: stepsInProgress(inFront?.steps ?? []).map(({ startedAt, endedAt, reason, ...step }) => ({
      ...step,
      startedAt: maybeIso(startedAt),
      endedAt: maybeIso(endedAt),
      reason: reason && { code: reason.code, message: reason.message },
    })),
    agent:
      agent === undefined
        ? null
        : {
            heartbeatAt: maybeIso(agent.heartbeat_at),
            metrics: JSON.parse(agent.metrics ?? '{}') as Record<string, number>,
          },
    attempts: attempts.map(({ attempt, machine, diagnosis, steps }) => ({
      number: attempt.number,
      path: attempt.path,
      outcome: attempt.outcome,
      blame: attempt.blame,
      diagnosis: diagnosis === null || tenantId !== undefined ? null : presentDiagnosis(diagnosis),
      machine: machine?.name ?? null,
      firmware: machine?.firmware ?? null,
      steps: steps.map(({ name, state, tries, started_at, ended_at }) => ({
        name,
        state,
        tries,
        startedAt: iso(started_at),
        endedAt: maybeIso(ended_at),
      })),
    })),
    createdAt: iso(request.created_at),
    completedAt: maybeIso(request.completed_at),
    endedAt: maybeIso(request.ended_at),
  };
}
