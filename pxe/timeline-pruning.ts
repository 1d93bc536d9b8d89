import { HOUR, SECOND } from '../appliance/kernel/clock.ts';
import type { Clock, Millis } from '../appliance/kernel/clock.ts';
import type { Log } from '../appliance/kernel/log.ts';
import { periodically } from '../appliance/kernel/periodically.ts';
import type { Service } from '../appliance/kernel/service.ts';
import type { Store } from '../appliance/store/store.ts';

export interface TimelinePruningOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  /** How long an entry stays, with its packet. */
  readonly keep: Millis;
}

/**
 * Deletes what is older than `keep`, every hour. In small batches with a rest after each: SQLite has one writer, and boots are
 * not to wait for it behind a month of packets.
 */
export class TimelinePruning implements Service {
  readonly name = 'timeline-pruning';
  readonly #options: TimelinePruningOptions;

  constructor(options: TimelinePruningOptions) {
    this.#options = options;
  }

  run(signal: AbortSignal): Promise<void> {
    const failure = 'the timeline could not be pruned';
    return periodically(() => this.#prune(signal), { ...this.#options, every: HOUR, failure }, signal);
  }

  async #prune(signal: AbortSignal): Promise<void> {
    const { clock, keep, log } = this.#options;
    const before = clock.now() - keep;
    let pruned = 0;
    for (let last = BATCH; last === BATCH; pruned += last) {
      if (pruned > 0) await clock.sleepUntil(clock.now() + REST, signal);
      last = await this.#pruneSome(before);
    }
    if (pruned > 0) log.info({ pruned }, 'timeline pruned');
  }

  /** How many it deleted: fewer than a batch when none is left. */
  #pruneSome(before: Millis): Promise<number> {
    return this.#options.store.transaction(async (tx) => {
      const { numDeletedRows } = await tx
        .deleteFrom('timeline')
        .where('id', 'in', (eb) =>
          eb.selectFrom('timeline').select('id').where('at', '<', before).orderBy('at').limit(BATCH),
        )
        .executeTakeFirst();
      return Number(numDeletedRows);
    });
  }
}

// A few milliseconds of the writer at a time; at this pace a day of 10,000 boots is gone within the hour.
const BATCH = 500;
const REST = SECOND / 10;
