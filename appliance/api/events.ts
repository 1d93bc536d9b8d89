import { Type } from 'typebox';

import { catalogue, eventTypes } from '../events/catalogue.ts';
import type { EventType } from '../events/catalogue.ts';
import type { EventRecord } from '../events/event-log.ts';
import type { EventFilter } from '../events/event-page.ts';
import { readEventPage } from '../events/event-page.ts';
import type { Reader } from '../store/store.ts';
import { tenantOf } from './auth.ts';
import { iso, problems, strict, Timestamp } from './schemas.ts';
import type { Api } from './typed-api.ts';
import { invalid } from './unique.ts';

const Event = Type.Object({
  position: Type.Integer(),
  type: Type.String(),
  version: Type.Integer({ description: "Of the data's shape, as the catalogue counts them." }),
  key: Type.String({ description: 'The id of what it is about.' }),
  at: Timestamp,
  actor: Type.String(),
  data: Type.Record(Type.String(), Type.Unknown()),
});

/** What the readers of events, also those who follow them, may narrow them down to. */
export const EventQuery = {
  type: Type.Optional(
    Type.String({
      maxLength: 1_000,
      pattern: '^[a-z.-]+(,[a-z.-]+)*$',
      description: 'One type, or several with commas.',
    }),
  ),
  key: Type.Optional(Type.String({ minLength: 1, maxLength: 128, description: 'The id of what they are about.' })),
};

const tags = ['events'];

/** What happened, and the shapes in which it is told. */
export function eventRoutes(api: Api, { read }: { readonly read: Reader }): void {
  api.get(
    '/events',
    {
      config: { right: 'events:read' },
      schema: {
        tags,
        summary: 'Read events after a position, the oldest first; who works for a tenant sees its own',
        querystring: Type.Object(
          {
            after: Type.Integer({
              minimum: 0,
              default: 0,
              description: '`position` of the page before; 0: from the start.',
            }),
            limit: Type.Integer({ minimum: 1, maximum: 1000, default: 100 }),
            ...EventQuery,
          },
          strict,
        ),
        response: {
          200: Type.Object({
            events: Type.Array(Event),
            position: Type.Integer({ description: 'Where to go on: up to here the log was looked through.' }),
            last: Type.Integer({ description: 'The end of the log: there is more while `position` is before it.' }),
          }),
          ...problems,
        },
      },
    },
    async ({ query, caller }) => {
      const { events, position, last } = await readEventPage(read, query, filterOf(query, tenantOf(caller)));
      return { events: events.map(present), position, last };
    },
  );

  const types = eventTypes.map((type) => {
    const { version, key, data } = catalogue[type];
    return { type, version, key, schema: data as unknown as Record<string, unknown> };
  });
  api.get(
    '/events/catalogue',
    {
      config: { right: 'events:read' },
      schema: {
        tags,
        summary: 'List the types of events, each with the JSON Schema of its data',
        response: {
          200: Type.Object({
            types: Type.Array(
              Type.Object({
                type: Type.String(),
                version: Type.Integer({ description: 'Another shape of the data is another version.' }),
                key: Type.String({ description: 'Of what `key` is the id.' }),
                schema: Type.Record(Type.String(), Type.Unknown()),
              }),
            ),
          }),
          ...problems,
        },
      },
    },
    async () => ({ types }),
  );
}

/** Errors: `request.invalid` naming a type that there is not. */
export function filterOf(
  { type, key }: { type?: string; key?: string },
  tenantId: string | undefined,
): EventFilter & { tenantId: string | undefined } {
  const types = type?.split(',');
  const unknown = types?.find((name) => !eventTypes.includes(name as EventType));
  if (unknown !== undefined) throw invalid('/type', `There is no type ${unknown}.`);
  return { ...(types && { types: types as EventType[] }), ...(key !== undefined && { key }), tenantId };
}

export function present({ position, type, version, key, at, actor, data }: EventRecord) {
  return { position, type, version, key, at: iso(at), actor, data };
}
