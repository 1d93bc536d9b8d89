import { Type } from 'typebox';

import type { EventLog } from '../events/event-log.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Sagas } from '../saga/sagas.ts';
import type { Reader, Store } from '../store/store.ts';
import { doneBy } from './auth.ts';
import { Id, IdParams, iso, problems, strict, Timestamp } from './schemas.ts';
import type { Api } from './typed-api.ts';

export interface StuckRouteDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly sagas: Sagas;
}

const MaybeId = Type.Union([Id, Type.Null()]);

const Stuck = Type.Object({
  id: Id,
  saga: Type.String({ description: 'What it is: `provision`, `inspect`, `wipe`.' }),
  subject: Type.String({ description: 'The attempt or machine that it is about.' }),
  request: MaybeId,
  machine: MaybeId,
  step: Type.String({ description: 'Whose undo failed.' }),
  code: Type.String(),
  message: Type.String(),
  tries: Type.Integer(),
  since: Timestamp,
});

const Decision = Type.Object(
  {
    action: Type.Union([Type.Literal('retry'), Type.Literal('skip')], {
      description:
        'retry: what was in the way is repaired, the undo that failed is run again. skip: an operator takes care of what ' +
        'that step has left, the undo goes on behind it.',
    }),
    reason: Type.String({ minLength: 1, maxLength: 500, description: 'Kept with the event.' }),
  },
  strict,
);

const tags = ['operations'];

/** What could not be undone and waits for a person; an operator's alone. */
export function stuckRoutes(api: Api, { store, events, sagas }: StuckRouteDeps): void {
  api.get(
    '/stuck',
    {
      config: { right: 'fleet:read' },
      schema: {
        tags,
        summary: 'List what could not be undone, the oldest first',
        response: { 200: Type.Object({ stuck: Type.Array(Stuck) }), ...problems },
      },
    },
    async () => ({ stuck: await listStuck(store.read) }),
  );
  api.post(
    '/stuck/:id',
    {
      config: { right: 'fleet:write' },
      schema: {
        tags,
        summary: 'Let an undo go on that is stuck',
        params: IdParams,
        body: Decision,
        response: { 204: Type.Null(), ...problems },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      const { action, reason } = request.body;
      await store.transaction(async (tx) => {
        const resumed = action === 'retry' ? await sagas.retryStuck(tx, id) : await sagas.skipStuck(tx, id);
        if (!resumed) throw new RackstartError('not-found', `Nothing that is stuck has the id ${id}.`);
        const data = { sagaId: id, action, reason };
        await events.append(tx, 'saga.resumed', { key: id, ...doneBy(request), data });
      });
      return reply.code(204).send(null);
    },
  );
}

async function listStuck(read: Reader) {
  const rows = await read
    .selectFrom('sagas')
    .innerJoin('saga_steps', 'saga_steps.saga_id', 'sagas.id')
    .leftJoin('attempts', 'attempts.saga_id', 'sagas.id')
    .leftJoin('machines', (join) =>
      join.on((eb) =>
        eb.or([eb('machines.id', '=', eb.ref('attempts.machine_id')), eb('machines.id', '=', eb.ref('sagas.subject'))]),
      ),
    )
    .select(['sagas.id', 'sagas.name', 'sagas.subject', 'attempts.request_id', 'machines.id as machine_id'])
    .select(['saga_steps.name as step', 'saga_steps.error', 'saga_steps.tries', 'saga_steps.ended_at'])
    .select('saga_steps.started_at')
    .where('sagas.state', '=', 'stuck')
    .where('saga_steps.state', '=', 'stuck')
    .orderBy('sagas.created_at')
    .orderBy('sagas.id')
    .execute();
  return rows.map(({ id, name, subject, request_id, machine_id, step, error, tries, ended_at, started_at }) => {
    const { code, message } = JSON.parse(error ?? '{}') as { code?: string; message?: string };
    const why = { code: code ?? 'internal', message: message ?? 'unknown' };
    const about = { id, saga: name, subject, request: request_id, machine: machine_id };
    return { ...about, step, ...why, tries, since: iso(ended_at ?? started_at) };
  });
}
