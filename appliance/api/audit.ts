import { Type } from 'typebox';

import type { Reader } from '../store/store.ts';
import type { AuditEntry } from '../tenants/audit-trail.ts';
import { readAuditTrail } from '../tenants/audit-trail.ts';
import { tenantOf } from './auth.ts';
import { Id, Timestamp, iso, problems, strict } from './schemas.ts';
import type { Api } from './typed-api.ts';

const MaybeId = Type.Union([Id, Type.Null()]);

const Entry = Type.Object({
  position: Type.Integer({ description: 'Of the event, in the log of all events.' }),
  at: Timestamp,
  what: Type.String({ description: 'The type of the event.' }),
  about: Type.String({ description: 'The id of what it was done to.' }),
  tenant: MaybeId,
  who: Type.Object(
    {
      key: Id,
      role: Type.String(),
      keyName: Type.Union([Type.String(), Type.Null()]),
      user: Type.Union([Type.Object({ id: Id, name: Type.String() }), Type.Null()]),
    },
    { description: 'A tenant is told that somebody of no tenant did it, and neither their name nor from where.' },
  ),
  from: Type.Union([Type.String({ description: 'The address that the call came from.' }), Type.Null()]),
  data: Type.Record(Type.String(), Type.Unknown()),
});

/** Who did what, when, from where: everything that was changed through the API. */
export function auditRoutes(api: Api, { read }: { readonly read: Reader }): void {
  api.get(
    '/audit',
    {
      config: { right: 'audit:read' },
      schema: {
        tags: ['audit'],
        summary: 'Read the audit trail, the oldest first',
        querystring: Type.Object(
          {
            after: Type.Integer({ minimum: 0, default: 0, description: '`position` of the page before.' }),
            limit: Type.Integer({ minimum: 1, maximum: 1000, default: 100 }),
          },
          strict,
        ),
        response: {
          200: Type.Object({ entries: Type.Array(Entry), position: Type.Integer() }),
          ...problems,
        },
      },
    },
    async ({ caller, query }) => {
      const tenantId = tenantOf(caller);
      const entries = await readAuditTrail(read, { ...query, tenantId });
      return {
        entries: entries.map((entry) => present(entry, tenantId)),
        position: entries.at(-1)?.event.position ?? query.after,
      };
    },
  );
}

function present({ event, by }: AuditEntry, reader: string | undefined) {
  const isOurs = reader !== undefined && by.tenantId === undefined;
  const { position, at, type, key, tenantId = null, origin = null, data } = event;
  const who = isOurs ? { keyName: null, user: null } : { keyName: by.keyName, user: by.user ?? null };
  return {
    position,
    at: iso(at),
    what: type,
    about: key,
    tenant: tenantId,
    who: { key: by.keyId, role: by.role, ...who },
    from: isOurs ? null : origin,
    data: { ...data },
  };
}
