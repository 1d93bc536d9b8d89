import { sql } from 'kysely';

import type { DemandSeries } from '../../scheduler/forecast/demand-series.ts';
import { HOUR, MINUTE } from '../kernel/clock.ts';
import type { Millis } from '../kernel/clock.ts';
import type { Reader } from '../store/store.ts';

/** The machines of one flavor in one region, from which orders are served. */
export interface PoolKey {
  readonly regionId: string;
  readonly flavorId: string;
}

/** What a forecast goes by. */
const DEMAND_KEPT: Millis = 90 * 24 * HOUR;

/**
 * How many machines of each flavor were ordered in each region, by the hour (of UTC), over the last 90 days: as `requests` has it,
 * whatever became of the order. Kept in memory, since it is a fold of what is durable: read a day at a time when it is asked for
 * first, then each hour that has ended.
 */
export class Demand {
  readonly #read: Reader;
  /** By key, orders by the hour since the epoch; an hour without orders has no entry. */
  readonly #orders = new Map<string, Map<number, number>>();
  /** Hours since the epoch: from the first that is kept to before the first that is not counted yet. */
  #from = 0;
  #until = 0;

  constructor(read: Reader) {
    this.#read = read;
  }

  /** Counts the hours that have ended and were not counted; with nothing new it asks nothing. */
  async advance(now: Millis): Promise<void> {
    const ended = Math.floor((now - COMMIT_DELAY) / HOUR);
    this.#forget(Math.floor((now - DEMAND_KEPT) / HOUR));
    while (this.#until < ended) {
      const until = Math.min(ended, this.#until + 24);
      for (const { key, hour, orders } of await ordersBetween(this.#read, this.#until, until)) {
        const hours = this.#orders.get(key) ?? new Map<number, number>();
        this.#orders.set(key, hours.set(hour, orders));
      }
      this.#until = until;
    }
  }

  /** From the first order on: before it there was nothing to be ordered, or nobody to order. */
  seriesOf(pool: PoolKey): DemandSeries {
    const hours = this.#orders.get(keyOf(pool)) ?? new Map<number, number>();
    const first = Math.min(this.#until, ...hours.keys());
    const counts = Array.from({ length: this.#until - first }, (_, index) => hours.get(first + index) ?? 0);
    return { startAt: first * HOUR, bucketMs: HOUR, counts };
  }

  #forget(from: number): void {
    this.#from = Math.max(this.#from, from);
    this.#until = Math.max(this.#until, this.#from);
    for (const hours of this.#orders.values()) {
      for (const hour of hours.keys()) if (hour < this.#from) hours.delete(hour);
    }
  }
}

/** An order that was admitted in an hour's last second may be committed after it. */
const COMMIT_DELAY: Millis = MINUTE;

interface OrdersOfHour {
  readonly key: string;
  readonly hour: number;
  readonly orders: number;
}

async function ordersBetween(read: Reader, from: number, until: number): Promise<OrdersOfHour[]> {
  // Whole numbers divide as such on both databases; a parameter would be a fraction on SQLite.
  const hour = sql<number>`created_at / ${sql.lit(HOUR)}`;
  const rows = await read
    .selectFrom('requests')
    .select((eb) => ['region_id', 'flavor_id', hour.as('hour'), eb.fn.countAll<number>().as('orders')])
    .where('provider', '=', 'bare-metal')
    .where('created_at', '>=', from * HOUR)
    .where('created_at', '<', until * HOUR)
    .groupBy(['region_id', 'flavor_id', hour])
    .execute();
  return rows.map((row) => ({ key: keyOf({ regionId: row.region_id, flavorId: row.flavor_id }), ...row }));
}

export function keyOf({ regionId, flavorId }: PoolKey): string {
  return `${regionId} ${flavorId}`;
}
