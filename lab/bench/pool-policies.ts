import { countOrders } from '../../scheduler/forecast/demand-series.ts';
import { chooseMethod, forecast } from '../../scheduler/forecast/forecast.ts';
import type { ChosenMethod, Forecast } from '../../scheduler/forecast/forecast.ts';
import { defaultPoolPolicy, poolTarget } from '../../scheduler/pool-target.ts';
import { lawOf, traceBegin, traceDays } from '../traces/demand.ts';
import type { Demand } from '../traces/demand.ts';
import { WARM_UP_S } from './pool-replay.ts';
import type { PoolPolicyAt } from './pool-replay.ts';

const HOUR_S = 3_600;
const WARM_UP_MS = WARM_UP_S.most * 1_000;

/** Always as many. */
export function fixed(size: number): PoolPolicyAt {
  return () => ({ target: size, keep: size });
}

/**
 * The forecast as it stands at the beginning of every hour of a trace: from the complete hours of the 90 days before, with the
 * method that is chosen anew every midnight. It begins with knowing nothing.
 */
export function forecasts({ orders }: Pick<Demand, 'orders'>, days = traceDays): Forecast[] {
  const times = orders.map((at) => traceBegin + at * 1_000);
  let chosen: ChosenMethod | undefined;
  return Array.from({ length: days * 24 }, (_, hour) => {
    const now = traceBegin + hour * HOUR_S * 1_000;
    const series = countOrders(times, { from: traceBegin, until: now, bucketMs: HOUR_S * 1_000 });
    if (chosen === undefined || hour % 24 === 0) chosen = chooseMethod(series, WARM_UP_MS);
    return forecast(series, chosen);
  });
}

/** Ours: the target of the forecast of the hour, with floor and ceiling off. */
export function foreseeing(hourly: readonly PoolForecast[], capacity: number, serviceLevel: number): PoolPolicyAt {
  const policy = { ...defaultPoolPolicy, floor: undefined, ceiling: undefined, warmUpMs: WARM_UP_MS, serviceLevel };
  return (at) => poolTarget(hourly[Math.floor(at / HOUR_S)]!, { now: traceBegin + at * 1_000, capacity, policy });
}

/** What a forecast would be that knew from what the trace was drawn: for every hour, as `forecasts`. */
export function lawful(name: string): PoolForecast[] {
  const { perHour, dispersion } = lawOf(name);
  const over = (from: number, until: number) => {
    const middle = ((from + until) / 2 - traceBegin) / 1_000;
    return { mean: (perHour(middle) * (until - from)) / (HOUR_S * 1_000), dispersion };
  };
  return Array.from({ length: traceDays * 24 }, () => ({ method: 'daily-weekly', over }));
}

type PoolForecast = Pick<Forecast, 'method' | 'over'>;
