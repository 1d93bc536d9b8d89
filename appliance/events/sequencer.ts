import { setImmediate as nextTurn } from 'node:timers/promises';

import { sql } from 'kysely';

import { SECOND } from '../kernel/clock.ts';
import type { Clock, Millis } from '../kernel/clock.ts';
import { asRackstartError } from '../kernel/errors.ts';
import type { Log } from '../kernel/log.ts';
import { noPeers } from '../kernel/peers.ts';
import type { Peers } from '../kernel/peers.ts';
import type { Service } from '../kernel/service.ts';
import type { Store } from '../store/store.ts';
import { Doorbell } from './doorbell.ts';

/**
 * Gives events their positions, where their log does not (`event-log.ts`), and tells of new ones. An id from a sequence
 * would be given before the commit: PostgreSQL then shows 8 before 7, and a reader whose cursor stands at 8 never sees 7.
 * So positions are given afterwards, under the lock of one row.
 *
 * It works at once when rung, and every `period` for the events of a process that ended before it came to that; what
 * another process positioned is told to the listeners then, too, or as soon as that one tells.
 */
export class Sequencer implements Service {
  readonly name = 'event-sequencer';
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #peers: Peers;
  readonly #period: Millis;
  readonly #bell = new Doorbell();
  readonly #listeners = new Set<(last: number) => void>();
  #told = 0;
  /** Whether an event of this process may have none, which has rung for it. */
  #isAwaited = false;
  /** Whether an event may have none: not on SQLite, once those of an older program have theirs. */
  #mayWait = true;

  constructor(
    deps: { store: Store; clock: Clock; log: Log; peers?: Peers },
    { period = SECOND }: { period?: Millis } = {},
  ) {
    this.#store = deps.store;
    this.#clock = deps.clock;
    this.#log = deps.log;
    this.#peers = deps.peers ?? noPeers;
    this.#period = period;
  }

  async run(signal: AbortSignal): Promise<void> {
    const silence = this.#peers.hear(TOPIC, () => this.#bell.ring());
    while (!signal.aborted) {
      this.#bell.clear();
      try {
        await this.sequence();
      } catch (error) {
        const { code, message } = asRackstartError(error);
        this.#log.warn({ code, reason: message }, 'events wait for their positions');
      }
      await this.#bell.wait(this.#clock, this.#clock.now() + this.#period, signal);
      // All who follow the log look at every nudge. A loop that is idle comes round in no time; a busy one has more to tell by then.
      for (let turn = 0; turn < TURNS_A_NUDGE; turn++) await nextTurn();
    }
    silence();
  }

  /** There is something to position. */
  ring(): void {
    this.#isAwaited = true;
    this.#bell.ring();
  }

  nudge(listener: (last: number) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Positions every committed event, then nudges the listeners if the log has grown since they were last told. */
  async sequence(): Promise<void> {
    const last = (this.#mayWait ? await this.#positionAll() : undefined) ?? (await this.#lastGiven());
    this.#mayWait = this.#store.dialect === 'postgres';
    if (last === this.#told) return;
    this.#told = last;
    for (const listener of this.#listeners) listener(last);
  }

  /** The last position; undefined when there was nothing to give. */
  async #positionAll(): Promise<number | undefined> {
    const isAwaited = this.#isAwaited;
    this.#isAwaited = false;
    // Who looks unasked mostly finds nothing, and spares a transaction.
    if (!isAwaited && !(await this.#anyWaits())) return undefined;
    for (;;) {
      const { last, count } = await this.#positionSome();
      if (count === BATCH) continue;
      // What is committed from here on rings again.
      if (last !== this.#told) this.#peers.tell(TOPIC, 'positioned');
      return last;
    }
  }

  async #anyWaits(): Promise<boolean> {
    const waiting = this.#store.read.selectFrom('events').select('id').where('position', 'is', null).limit(1);
    return (await waiting.executeTakeFirst()) !== undefined;
  }

  async #lastGiven(): Promise<number> {
    return (await this.#store.read.selectFrom('event_positions').select('last').executeTakeFirstOrThrow()).last;
  }

  #positionSome(): Promise<{ last: number; count: number }> {
    return this.#store.transaction(async (tx) => {
      // Reading in the writing takes the row's lock first: all that committed before is seen by the next statement.
      const { last } = await tx
        .updateTable('event_positions')
        .set((row) => ({ last: row.ref('last') }))
        .returning('last')
        .executeTakeFirstOrThrow();
      const positioned = await tx
        .with('numbered', (db) =>
          db
            .selectFrom('events')
            .select(['id', sql<number>`row_number() over (order by id)`.as('number')])
            .where('position', 'is', null)
            .orderBy('id')
            .limit(BATCH),
        )
        .updateTable('events')
        .from('numbered')
        .set((row) => ({ position: sql<number>`${row.ref('numbered.number')} + ${last}` }))
        .whereRef('events.id', '=', 'numbered.id')
        .executeTakeFirst();
      const count = Number(positioned.numUpdatedRows);
      tx.defer(tx.updateTable('event_positions').set({ last: last + count }));
      return { last: last + count, count };
    });
  }
}

const TOPIC = 'events';

const TURNS_A_NUDGE = 12;

// A short lock: appenders are not held up by it, but others who give positions are.
const BATCH = 500;
