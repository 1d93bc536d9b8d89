import { Type } from 'typebox';

import type { Guards } from '../kernel/guard.ts';
import { MaybeTimestamp, Timestamp, iso, maybeIso, problems } from './schemas.ts';
import type { Api } from './typed-api.ts';

const Guard = Type.Object({
  cluster: Type.String({ description: 'Such as `bmc:north/rack-1`, the BMCs of a rack.' }),
  state: Type.Union([Type.Literal('closed'), Type.Literal('open'), Type.Literal('half-open')], {
    description: 'closed: it is called. open: it is not, since it did not answer. half-open: one call may try.',
  }),
  since: Timestamp,
  retryAt: MaybeTimestamp,
  inFlight: Type.Integer({ description: 'Calls under way.' }),
  waiting: Type.Integer({ description: 'Calls that wait for their turn.' }),
  failures: Type.Integer({ description: 'In a row, until now.' }),
  refused: Type.Integer({ description: 'Calls that it never heard of, since the daemon started.' }),
  openings: Type.Integer({ description: 'Since the daemon started.' }),
});

/** What stands between us and each cluster that we call. They are the answering daemon's own. */
export function guardRoutes(api: Api, guards: Guards): void {
  api.get(
    '/guards',
    {
      config: { right: 'fleet:read' },
      schema: {
        tags: ['operations'],
        summary: 'List the clusters that are called: whether they answer, and how many calls are under way',
        response: { 200: Type.Object({ guards: Type.Array(Guard) }), ...problems },
      },
    },
    async () => ({
      guards: guards.list().map((guard) => ({
        ...guard,
        since: iso(guard.since),
        retryAt: maybeIso(guard.retryAt),
      })),
    }),
  );
}
