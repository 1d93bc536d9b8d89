import { Type } from 'typebox';

import { orphansOf } from '../requests/sweep-records.ts';
import type { Reader } from '../store/store.ts';
import { Id, Timestamp, iso, problems } from './schemas.ts';
import type { Api } from './typed-api.ts';

const Orphan = Type.Object({
  id: Id,
  provider: Type.String(),
  cluster: Type.Union([Type.String(), Type.Null()]),
  kind: Type.String({ description: 'What kind of thing is held: machine, volume …' }),
  name: Type.String({ description: "The provider's id of it." }),
  madeFor: Type.String({ description: 'The attempt, or the key of a resource, that it was made for.' }),
  foundAt: Timestamp,
  removeAt: Type.String({ format: 'date-time', description: 'When it is removed, unless somebody owns it by then.' }),
  failure: Type.Union([Type.Object({ code: Type.String(), message: Type.String() }), Type.Null()], {
    description: 'Why it could not be removed, at the last try.',
  }),
});

/** What providers hold and no request owns, until it is removed. */
export function orphanRoutes(api: Api, read: Reader): void {
  api.get(
    '/orphans',
    {
      config: { right: 'fleet:read' },
      schema: {
        tags: ['operations'],
        summary: 'List what providers hold and no request owns, the oldest first',
        response: { 200: Type.Object({ orphans: Type.Array(Orphan) }), ...problems },
      },
    },
    async () => ({
      orphans: (await orphansOf(read)).map(({ made_for, found_at, remove_at, failure, ...orphan }) => ({
        ...orphan,
        madeFor: made_for,
        foundAt: iso(found_at),
        removeAt: iso(remove_at),
        failure: failure === null ? null : (JSON.parse(failure) as { code: string; message: string }),
      })),
    }),
  );
}
