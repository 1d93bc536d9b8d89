import type { Clock, Millis } from '../kernel/clock.ts';
import type { Ids } from '../kernel/ids.ts';
import type { EventRow } from '../store/schema.ts';
import type { Store, Tx } from '../store/store.ts';
import { catalogue } from './catalogue.ts';
import type { EventMap, EventType } from './catalogue.ts';
import { eventCheck } from './event-check.ts';
import type { Sequencer } from './sequencer.ts';

/** A place in the log: everything up to and including this position has been read. 0 is before the first event. */
export type Cursor = number;

export interface NewEvent<T extends EventType> {
  /** The id that waits match on; which one it is says the catalogue. */
  key: string;
  tenantId?: string | undefined;
  /** Who did it: an API key id, `saga`, `ramdisk`, … */
  actor: string;
  /** The client address it was asked for from: makes it part of the audit trail. */
  origin?: string | undefined;
  data: EventMap[T];
}

export interface EventOf<T extends EventType> {
  position: Cursor;
  id: string;
  type: T;
  /** Of the shape of `data`, as the catalogue counts them. */
  version: number;
  key: string;
  tenantId: string | undefined;
  at: Millis;
  actor: string;
  origin: string | undefined;
  data: EventMap[T];
}

/** One event as it was appended; `type` tells the shape of `data`. */
export type EventRecord = { [T in EventType]: EventOf<T> }[EventType];

/** An event of this type and key that comes after `since`. */
export interface Occurrence {
  type: EventType;
  key: string;
  since: Cursor;
}

/**
 * What happened, in an order every reader agrees on: an event is appended in the transaction of the change it tells. On
 * PostgreSQL it gets its position after that has committed; SQLite's transactions take turns, so there it has it from the
 * start. Positions have no gaps. A reader that has seen a position has seen all before it.
 */
export interface EventLog {
  /** Fails with `internal` when the data is not of the shape that the catalogue says. */
  append<T extends EventType>(tx: Tx, type: T, event: NewEvent<T>): Promise<void>;
  /** The events after a cursor, oldest first. */
  read(after: Cursor, limit: number): Promise<EventRecord[]>;
  /**
   * The last position given. Take it before looking at a state that an event would change: what changes it afterwards
   * has a greater position, so that a wait `since` here misses nothing.
   */
  position(): Promise<Cursor>;
  /**
   * Which of these have happened. No position is given from here until the transaction ends: who finds nothing and
   * leaves a note of what it waits for in the same transaction is found by the reader of the next event.
   */
  happened(tx: Tx, occurrences: readonly Occurrence[]): Promise<Occurrence[]>;
  /** Calls `listener` whenever there is more to read, with the last position, until the returned function is called. */
  nudge(listener: (last: Cursor) => void): () => void;
}

export function createEventLog(deps: { store: Store; clock: Clock; ids: Ids; sequencer: Sequencer }): EventLog {
  const { store, clock, ids, sequencer } = deps;
  const check = eventCheck();
  /** What has been appended and is written at the end of its transaction, most of which tell of several things. */
  const gathered = new WeakMap<Tx, NewRow[]>();
  return {
    async append(tx, type, { key, tenantId, actor, origin, data }) {
      check(type, data);
      const { version } = catalogue[type];
      const who = { tenant_id: tenantId ?? null, actor, origin: origin ?? null };
      const row = { id: ids.next('event'), type, version, key, at: clock.now(), ...who, data: JSON.stringify(data) };
      const before = gathered.get(tx);
      if (before !== undefined) {
        before.push(row);
        return;
      }
      const rows = [row];
      gathered.set(tx, rows);
      tx.beforeCommit(() => insertAll(tx, rows, store.dialect));
      tx.afterCommit(() => sequencer.ring());
    },

    async read(after, limit) {
      const rows = await store.read
        .selectFrom('events')
        .selectAll()
        .where('position', '>', after)
        .orderBy('position')
        .limit(limit)
        .execute();
      return rows.map(toRecord);
    },

    async position() {
      return (await store.read.selectFrom('event_positions').select('last').executeTakeFirstOrThrow()).last;
    },

    async happened(tx, occurrences) {
      // Excludes the sequencer, which updates this row, but not others who ask the same. SQLite has one writer anyway.
      const lock = tx.selectFrom('event_positions').select('last');
      const { last } = await (store.dialect === 'postgres' ? lock.forShare() : lock).executeTakeFirstOrThrow();
      const found: Occurrence[] = [];
      for (const occurrence of occurrences) {
        if (occurrence.since >= last) continue;
        const event = await tx
          .selectFrom('events')
          .select('id')
          .where('key', '=', occurrence.key)
          .where('type', '=', occurrence.type)
          .where('position', '>', occurrence.since)
          .limit(1)
          .executeTakeFirst();
        if (event !== undefined) found.push(occurrence);
      }
      return found;
    },

    nudge: (listener) => sequencer.nudge(listener),
  };
}

export function toRecord({ tenant_id, origin, data, ...row }: EventRow): EventRecord {
  const who = { tenantId: tenant_id ?? undefined, origin: origin ?? undefined };
  return { ...row, ...who, data: JSON.parse(data) as unknown } as EventRecord;
}

type NewRow = Omit<EventRow, 'position'>;

async function insertAll(tx: Tx, rows: readonly NewRow[], dialect: Store['dialect']): Promise<void> {
  const last = dialect === 'sqlite' ? await takePositions(tx, rows.length) : undefined;
  const positioned = rows.map((row, index) => {
    return { ...row, position: last === undefined ? null : last - rows.length + 1 + index };
  });
  for (let from = 0; from < rows.length; from += MOST_AT_ONCE) {
    tx.defer(tx.insertInto('events').values(positioned.slice(from, from + MOST_AT_ONCE)));
  }
}

// SQLite takes 32,766 values a statement.
const MOST_AT_ONCE = 1_000;

/** The last one of so many. */
async function takePositions(tx: Tx, count: number): Promise<Cursor> {
  const { last } = await tx
    .updateTable('event_positions')
    .set((row) => ({ last: row('last', '+', count) }))
    .returning('last')
    .executeTakeFirstOrThrow();
  return last;
}
