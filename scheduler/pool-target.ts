import { interval, stockServing } from './forecast/count-distribution.ts';
import type { Forecast } from './forecast/forecast.ts';

/** What one region and flavor's pool is meant to do; agreed by people. */
export interface PoolPolicy {
  /** The share of orders that find a machine ready; in (0, 1). */
  readonly serviceLevel: number;
  /** Shares of the capacity that the pool never falls below and never exceeds; undefined: no such limit. */
  readonly floor: number | undefined;
  readonly ceiling: number | undefined;
  /** How long a machine takes from power-on to ready, at the slow end; in ms. */
  readonly warmUpMs: number;
  /** A machine that will be wanted within this time is not drained; in ms. */
  readonly keepMs: number;
}

export const defaultPoolPolicy: PoolPolicy = {
  serviceLevel: 0.99,
  floor: 0.15,
  ceiling: 0.2,
  warmUpMs: 12 * 60_000,
  keepMs: 60 * 60_000,
};

/** The first of them decides. */
export type PoolTargetReason =
  | {
      readonly kind: 'lead-time-demand';
      readonly machines: number;
      readonly mean: number;
      readonly serviceLevel: number;
      /** Where nine in ten outcomes lie. */
      readonly interval: { readonly low: number; readonly high: number };
      readonly method: Forecast['method'];
    }
  | { readonly kind: 'floor' | 'ceiling'; readonly machines: number; readonly share: number }
  | { readonly kind: 'capacity'; readonly machines: number };

export interface PoolTarget {
  /** Machines that should be ready or on their way. */
  readonly target: number;
  /** At least `target`: up to here a ready machine is kept, since it will be wanted soon. */
  readonly keep: number;
  readonly reasons: readonly PoolTargetReason[];
}

/**
 * How many machines should wait: so many that, with a machine warmed for each that is taken, the share of orders finds one that the
 * service level asks for (the mean would leave every second customer waiting), between floor and ceiling. Where these contradict each other on
 * a small fleet the floor holds. `capacity` counts the region's machines of that flavor, whatever they do now.
 */
export function poolTarget(
  forecast: Pick<Forecast, 'method' | 'over'>,
  { now, capacity, policy }: { readonly now: number; readonly capacity: number; readonly policy: PoolPolicy },
): PoolTarget {
  const demand = forecast.over(now, now + policy.warmUpMs);
  const wanted = stockServing(demand, policy.serviceLevel);
  const limit = limitOn(wanted, capacity, policy);
  const target = limit?.machines ?? wanted;
  const soon = momentsUntil(now, policy).map((at) => {
    const later = stockServing(forecast.over(at, at + policy.warmUpMs), policy.serviceLevel);
    return limitOn(later, capacity, policy)?.machines ?? later;
  });
  const { mean } = demand;
  const { serviceLevel } = policy;
  const leadTimeDemand = {
    machines: wanted,
    mean,
    serviceLevel,
    interval: interval(demand, 0.9),
    method: forecast.method,
  };
  const reasons: PoolTargetReason[] = [{ kind: 'lead-time-demand', ...leadTimeDemand }];
  return { target, keep: Math.max(target, ...soon), reasons: limit === undefined ? reasons : [limit, ...reasons] };
}

/** What a target is between, in machines. */
export function limitsOf(
  capacity: number,
  { floor, ceiling }: Pick<PoolPolicy, 'floor' | 'ceiling'>,
): { readonly floor: number; readonly ceiling: number } {
  const least = floor === undefined ? 0 : shareOf(capacity, floor);
  return { floor: least, ceiling: ceiling === undefined ? capacity : Math.max(least, shareOf(capacity, ceiling)) };
}

/** The limit that decides instead of what is wanted; undefined when none does. */
function limitOn(wanted: number, capacity: number, { floor, ceiling }: PoolPolicy): PoolTargetReason | undefined {
  const { floor: least, ceiling: most } = limitsOf(capacity, { floor, ceiling });
  if (floor !== undefined && wanted < least) return { kind: 'floor', machines: least, share: floor };
  if (ceiling !== undefined && wanted > most) return { kind: 'ceiling', machines: most, share: ceiling };
  return wanted > capacity ? { kind: 'capacity', machines: capacity } : undefined;
}

// A share of a whole machine is one; of 100, 0.07 is 7, although their product is a little more.
function shareOf(capacity: number, share: number): number {
  return Math.min(capacity, Math.ceil(capacity * share - 1e-9));
}

/** The later moments at which machines that are ready now may be wanted, one warm-up after the other. */
function momentsUntil(now: number, { keepMs, warmUpMs }: PoolPolicy): number[] {
  return Array.from({ length: Math.floor(keepMs / warmUpMs) }, (_, index) => now + (index + 1) * warmUpMs);
}
