import type { Cursor, EventRecord } from '../events/event-log.ts';
import { toRecord } from '../events/event-log.ts';
import type { Reader } from '../store/store.ts';
import type { Role } from './scopes.ts';

/** Somebody did something through the API: an event, with whose key it was. */
export interface AuditEntry {
  readonly event: EventRecord;
  readonly by: {
    readonly keyId: string;
    readonly keyName: string;
    readonly role: Role;
    /** Undefined for who works for no tenant. */
    readonly tenantId: string | undefined;
    /** Undefined for a program's key. */
    readonly user: { readonly id: string; readonly name: string } | undefined;
  };
}

export interface AuditPage {
  readonly after: Cursor;
  readonly limit: number;
  /** Undefined for what was done to every tenant, and to the fleet. */
  readonly tenantId: string | undefined;
}

/** What was done after a position of the event log, the oldest first. What happened by itself is in the log alone. */
export async function readAuditTrail(read: Reader, { after, limit, tenantId }: AuditPage): Promise<AuditEntry[]> {
  const rows = await read
    .selectFrom('events')
    .innerJoin('api_keys', 'api_keys.id', 'events.actor')
    .leftJoin('users', 'users.id', 'api_keys.user_id')
    .selectAll('events')
    .select(['api_keys.name as key_name', 'api_keys.role', 'api_keys.tenant_id as key_tenant_id'])
    .select(['users.id as user_id', 'users.name as user_name'])
    .where('events.origin', 'is not', null)
    .where('events.position', '>', after)
    .$if(tenantId !== undefined, (query) => query.where('events.tenant_id', '=', tenantId ?? ''))
    .orderBy('events.position')
    .limit(limit)
    .execute();
  return rows.map(({ key_name, role, key_tenant_id, user_id, user_name, ...event }) => ({
    event: toRecord(event),
    by: {
      keyId: event.actor,
      keyName: key_name,
      role,
      tenantId: key_tenant_id ?? undefined,
      user: user_id === null || user_name === null ? undefined : { id: user_id, name: user_name },
    },
  }));
}
