import { Type } from 'typebox';

import type { Clock } from '../kernel/clock.ts';
import type { Log } from '../kernel/log.ts';
import { bootBundle } from '../machines/boot-bundle.ts';
import type { BootSummary, BootView } from '../machines/boot-history.ts';
import { listBoots, viewBoot } from '../machines/boot-history.ts';
import { diagnose } from '../machines/diagnosis/diagnose.ts';
import { gatherEvidence } from '../machines/diagnosis/gather.ts';
import { viewServer } from '../requests/server-view.ts';
import type { Store } from '../store/store.ts';
import { Diagnosis, presentDiagnosis } from './diagnosis.ts';
import type { Api } from './typed-api.ts';
import { Id, IdParams, MaybeTimestamp, Timestamp, iso, maybeIso, problems, strict } from './schemas.ts';
import { Timeline } from './servers.ts';

export interface BootRouteDeps {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
}

const Boot = Type.Object({
  session: Id,
  machine: Type.Object({ id: Id, name: Type.String(), firmware: Type.Union([Type.String(), Type.Null()]) }),
  verb: Type.String({ description: 'What the machine was ordered to do: inspect, wait, install or wipe.' }),
  generation: Type.Integer({ description: "Counts the machine's boots." }),
  state: Type.String(),
  endReason: Type.Union([Type.String(), Type.Null()]),
  openedAt: Timestamp,
  poweredAt: MaybeTimestamp,
  claimedAt: MaybeTimestamp,
  seenAt: Type.String({
    format: 'date-time',
    description: 'When the machine was heard last; at first, when the boot began.',
  }),
  endedAt: MaybeTimestamp,
});

const BootWithTimeline = Type.Object({ ...Boot.properties, ...Timeline.properties });

const Page = Type.Object(
  {
    limit: Type.Integer({ minimum: 1, maximum: 1000, default: 100 }),
    before: Type.Optional(
      Type.Integer({ minimum: 1, description: 'Only boots of an older generation: the last of the page before.' }),
    ),
  },
  strict,
);

const Bundle = {
  description: 'A gzipped tar; its README.txt says what is in it.',
  content: { 'application/gzip': { schema: { type: 'string', format: 'binary' } } },
};

const SessionParams = Type.Object({ session: Id }, strict);
const tags = ['boots'];

/** What machines did when they booted for us; an operator's alone. */
export function bootRoutes(api: Api, { store, clock, log }: BootRouteDeps): void {
  const { read } = store;

  api.get(
    '/machines/:id/boots',
    {
      config: { right: 'fleet:read' },
      schema: {
        tags,
        summary: 'List the boots of a machine, newest first',
        params: IdParams,
        querystring: Page,
        response: { 200: Type.Object({ boots: Type.Array(Boot) }), ...problems },
      },
    },
    async (request) => {
      const boots = await listBoots(read, { machineId: request.params.id }, request.query);
      return { boots: boots.map(present) };
    },
  );

  api.get(
    '/boots',
    {
      config: { right: 'fleet:read' },
      schema: {
        tags,
        summary: 'List the boots that installed a server, newest first',
        querystring: Type.Object({ server: Id }, strict),
        response: { 200: Type.Object({ boots: Type.Array(Boot) }), ...problems },
      },
    },
    async (request) => {
      const { attempts } = await viewServer(read, request.query.server);
      const boots = await listBoots(read, { attemptIds: attempts.map(({ attempt }) => attempt.id) }, { limit: 1000 });
      return { boots: boots.map(present) };
    },
  );

  api.get(
    '/boots/:session',
    {
      config: { right: 'fleet:read' },
      schema: {
        tags,
        summary: 'Show a boot: its stages, and everything that was seen of it',
        params: SessionParams,
        response: { 200: BootWithTimeline, ...problems },
      },
    },
    async (request) => presentView(await viewBoot(read, request.params.session)),
  );

  api.get(
    '/boots/:session/diagnosis',
    {
      config: { right: 'fleet:read' },
      schema: {
        tags,
        summary: 'Say why a boot failed, by what was seen of it, and what to do',
        params: SessionParams,
        response: { 200: Diagnosis, ...problems },
      },
    },
    async (request) => {
      return presentDiagnosis(diagnose(await gatherEvidence(read, request.params.session, clock.now())));
    },
  );

  api.get(
    '/boots/:session/bundle',
    {
      config: { right: 'fleet:read' },
      schema: {
        tags,
        summary: 'Everything known of a boot, secrets overwritten; a download',
        params: SessionParams,
        response: { 200: Bundle, ...problems },
      },
    },
    async (request, reply) => {
      const { session } = request.params;
      const bundle = await bootBundle(read, await viewBoot(read, session), { at: clock.now(), log });
      return reply.headers(attachment(`${session}.tar.gz`)).send(bundle);
    },
  );
}

function attachment(name: string): Record<string, string> {
  return { 'content-type': 'application/gzip', 'content-disposition': `attachment; filename="${name}"` };
}

function present({ session, verb, machine }: BootSummary) {
  return {
    session: session.id,
    machine: { id: machine.id, name: machine.name, firmware: machine.firmware },
    verb,
    generation: session.generation,
    state: session.state,
    endReason: session.end_reason,
    openedAt: iso(session.opened_at),
    poweredAt: maybeIso(session.powered_at),
    claimedAt: maybeIso(session.claimed_at),
    seenAt: iso(session.seen_at),
    endedAt: maybeIso(session.ended_at),
  };
}

function presentView(boot: BootView) {
  return {
    ...present(boot),
    stages: boot.stages.map(({ name, startedAt, endedAt, facts }) => {
      return { name, startedAt: iso(startedAt), endedAt: maybeIso(endedAt ?? null), facts: { ...facts } };
    }),
    entries: boot.entries.map(({ at, source, name, detail }) => ({ at: iso(at), source, name, detail: { ...detail } })),
  };
}
