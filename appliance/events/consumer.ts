import { SECOND } from '../kernel/clock.ts';
import type { Clock, Millis } from '../kernel/clock.ts';
import { asRackstartError } from '../kernel/errors.ts';
import type { Log } from '../kernel/log.ts';
import { noPeers } from '../kernel/peers.ts';
import type { Peers } from '../kernel/peers.ts';
import type { Service } from '../kernel/service.ts';
import type { Store } from '../store/store.ts';
import type { EventType } from './catalogue.ts';
import { Doorbell } from './doorbell.ts';
import type { Cursor, EventLog, EventRecord } from './event-log.ts';

/** Takes a batch, oldest first. What throws gets the same events again: deliveries must tolerate repetition. */
export type Deliver = (events: readonly EventRecord[], signal: AbortSignal) => Promise<void>;

export interface ConsumerOptions {
  /** Names its cursor in the database: for ever, once it has run. */
  name: string;
  deliver: Deliver;
  /** Only these are delivered; all unless told. */
  types?: readonly EventType[];
  /** Where a consumer begins that never ran before; 0, the beginning of the log, unless told. */
  from?: Cursor;
  batch?: number;
  /** How long after a failed delivery it tries again, and how often it looks unasked. */
  period?: Millis;
}

export interface ConsumerDeps {
  store: Store;
  events: EventLog;
  clock: Clock;
  log: Log;
  /** Of several processes one delivers, as long as they can agree on which. */
  peers?: Peers;
}

/** Reads the event log from a cursor of its own that outlives the process: each event is delivered at least once. */
export class Consumer implements Service {
  readonly name: string;
  readonly #deps: ConsumerDeps;
  readonly #peers: Peers;
  readonly #options: Required<Omit<ConsumerOptions, 'types'>>;
  readonly #wanted: (event: EventRecord) => boolean;
  /** Up to where it has read; undefined before the first look, and after a failure. */
  #at: Cursor | undefined;
  /** The cursor in the database. */
  #noted: Cursor = 0;

  constructor(deps: ConsumerDeps, options: ConsumerOptions) {
    const { name, types } = options;
    this.name = name;
    this.#deps = deps;
    this.#peers = deps.peers ?? noPeers;
    this.#wanted = ({ type }) => types === undefined || types.includes(type);
    this.#options = { from: 0, batch: 100, period: 5 * SECOND, ...options };
  }

  async run(signal: AbortSignal): Promise<void> {
    const { events, clock, log } = this.#deps;
    const bell = new Doorbell();
    const silence = events.nudge(() => bell.ring());
    while (!signal.aborted) {
      bell.clear();
      try {
        // Who has delivered last goes on; the others look again when it should have.
        if (await this.#peers.isOurs(`consumer:${this.name}`, 2 * this.#options.period)) await this.#deliverAll(signal);
        else this.#at = undefined;
      } catch (error) {
        this.#at = undefined;
        if (error === signal.reason) break;
        const { code, message } = asRackstartError(error);
        log.warn({ consumer: this.name, code, reason: message }, 'delivery failed');
      }
      await bell.wait(clock, clock.now() + this.#options.period, signal);
    }
    silence();
  }

  async #deliverAll(signal: AbortSignal): Promise<void> {
    const { batch, deliver } = this.#options;
    this.#noted = this.#at === undefined ? await this.#cursor() : this.#noted;
    this.#at ??= this.#noted;
    while (!signal.aborted) {
      const events = await this.#deps.events.read(this.#at, batch);
      const last = events.at(-1);
      if (last === undefined) return;
      const wanted = events.filter(this.#wanted);
      if (wanted.length > 0) await deliver(wanted, signal);
      // To read again over what nobody wanted costs less than to write down each time that it was read.
      if (wanted.length > 0 || last.position - this.#noted >= MOST_READ_AGAIN) await this.#advance(last.position);
      this.#at = last.position;
      // What came meanwhile rings again.
      if (events.length < batch) return;
    }
  }

  async #cursor(): Promise<Cursor> {
    const { read } = this.#deps.store;
    const row = await read
      .selectFrom('cursors')
      .select('position')
      .where('consumer', '=', this.name)
      .executeTakeFirst();
    return row?.position ?? this.#options.from;
  }

  async #advance(position: Cursor): Promise<void> {
    await this.#deps.store.transaction(async (tx) => {
      await tx
        .insertInto('cursors')
        .values({ consumer: this.name, position })
        .onConflict((conflict) =>
          // Another process may have come further.
          conflict.column('consumer').doUpdateSet({ position }).where('cursors.position', '<', position),
        )
        .execute();
    });
    this.#noted = position;
  }
}

const MOST_READ_AGAIN = 1_000;
