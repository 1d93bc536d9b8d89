import type { Reader } from '../store/store.ts';
import type { EventType } from './catalogue.ts';
import { toRecord } from './event-log.ts';
import type { Cursor, EventRecord } from './event-log.ts';

/** Which events a reader wants; all unless told. */
export interface EventFilter {
  readonly types?: readonly EventType[];
  /** What they are about. */
  readonly key?: string;
  readonly tenantId?: string | undefined;
}

export interface EventPage {
  readonly events: readonly EventRecord[];
  /** Up to where this page has looked: the next one begins after it, also when nothing was found. */
  readonly position: Cursor;
  /** The end of the log: there is more while `position` is before it. */
  readonly last: Cursor;
}

/**
 * The events after a position that pass the filter, oldest first: the log can be replayed from any point. A page looks through
 * a part of the log that is limited, so that a filter which hardly anything passes takes no longer than any other.
 */
export async function readEventPage(
  read: Reader,
  { after, limit }: { after: Cursor; limit: number },
  { types, key, tenantId }: EventFilter = {},
): Promise<EventPage> {
  // First: what is positioned from here on belongs to a later page.
  const { last } = await read.selectFrom('event_positions').select('last').executeTakeFirstOrThrow();
  // What is about one thing stands together in an index.
  const until = key === undefined ? Math.min(last, after + MOST_LOOKED_THROUGH) : last;
  const rows = await read
    .selectFrom('events')
    .selectAll()
    .where('position', '>', after)
    .where('position', '<=', until)
    .$if(types !== undefined, (query) => query.where('type', 'in', types ?? []))
    .$if(key !== undefined, (query) => query.where('key', '=', key ?? ''))
    .$if(tenantId !== undefined, (query) => query.where('tenant_id', '=', tenantId ?? ''))
    .orderBy('position')
    .limit(limit)
    .execute();
  const events = rows.map(toRecord);
  const position = events.length === limit ? (events.at(-1)?.position ?? until) : Math.max(after, until);
  return { events, position, last };
}

/** The same of one event. */
export function passes(event: EventRecord, { types, key, tenantId }: EventFilter): boolean {
  return (
    (types === undefined || types.includes(event.type)) &&
    (key === undefined || event.key === key) &&
    (tenantId === undefined || event.tenantId === tenantId)
  );
}

/** 20 ms of an index on two busy cores. */
const MOST_LOOKED_THROUGH = 20_000;
