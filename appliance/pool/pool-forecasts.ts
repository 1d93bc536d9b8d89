import { forecast } from '../../scheduler/forecast/forecast.ts';
import type { ChosenMethod, Forecast } from '../../scheduler/forecast/forecast.ts';
import { HOUR } from '../kernel/clock.ts';
import type { Millis } from '../kernel/clock.ts';
import type { ChooseTask } from './choose-method.ts';
import type { Demand, PoolKey } from './demand.ts';
import { keyOf } from './demand.ts';

/** How a method is chosen; in a thread, in the daemon. */
export type ChooseMethod = (task: ChooseTask, signal: AbortSignal) => Promise<ChosenMethod>;

/** How often each pool's method is chosen anew. */
const CHOOSE_EVERY: Millis = 24 * HOUR;

/** What each pool's orders are expected to be: walked along the series anew every hour, by a method that is chosen once a day. */
export class PoolForecasts {
  readonly #demand: Demand;
  readonly #choose: ChooseMethod;
  readonly #chosen = new Map<string, { readonly method: ChosenMethod; readonly at: Millis }>();
  readonly #current = new Map<string, { readonly forecast: Forecast; readonly hour: number }>();

  constructor(demand: Demand, choose: ChooseMethod) {
    this.#demand = demand;
    this.#choose = choose;
  }

  /** `leadMs`: how far ahead it must be right: as long as a machine warms up. */
  async of(
    pool: PoolKey,
    { now, leadMs }: { readonly now: Millis; readonly leadMs: Millis },
    signal: AbortSignal,
  ): Promise<Forecast> {
    await this.#demand.advance(now);
    const key = keyOf(pool);
    const series = this.#demand.seriesOf(pool);
    const hour = series.startAt / HOUR + series.counts.length;
    const known = this.#current.get(key);
    if (known?.hour === hour) return known.forecast;

    let chosen = this.#chosen.get(key);
    if (chosen === undefined || now - chosen.at >= CHOOSE_EVERY) {
      chosen = { method: await this.#choose({ series, leadMs }, signal), at: now };
      this.#chosen.set(key, chosen);
    }
    const current = { forecast: forecast(series, chosen.method), hour };
    this.#current.set(key, current);
    return current.forecast;
  }
}
