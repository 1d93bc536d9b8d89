import type { Walk } from './walk.ts';

/** How much of what came is taken up; from 0 to 1. */
export interface IntermittentWeights {
  readonly size: number;
  /** Croston: of the interval between two buckets with demand; TSB: of whether there was any. */
  readonly frequency: number;
}

/** From the first counts of a series: how many machines a bucket with demand has, and what share of buckets has any. */
export interface IntermittentStart {
  readonly size: number;
  readonly probability: number;
}

/**
 * Croston (1972) with the correction of Syntetos and Boylan (2005): sizes and intervals are smoothed apart, and only where there
 * was demand. Between two orders it expects what it did: long silence does not talk it out of them.
 */
export function croston(weights: IntermittentWeights, start: IntermittentStart): Walk {
  let { size } = start;
  let interval = start.probability === 0 ? Infinity : 1 / start.probability;
  let since = 1;
  return {
    expect: () => ((1 - weights.frequency / 2) * size) / interval,
    see(count) {
      if (count === undefined) return;
      if (count === 0) {
        since += 1;
        return;
      }
      const isFirst = interval === Infinity;
      size = isFirst ? count : size + weights.size * (count - size);
      interval = isFirst ? since : interval + weights.frequency * (since - interval);
      since = 1;
    },
  };
}

/**
 * Teunter, Syntetos and Babai, EJOR 214 (2011): as Croston, but with the probability of demand instead of its interval, which
 * every bucket without demand lowers. It forgets what nobody orders any more.
 */
export function tsb(weights: IntermittentWeights, start: IntermittentStart): Walk {
  let { size, probability } = start;
  return {
    expect: () => size * probability,
    see(count) {
      if (count === undefined) return;
      if (count > 0) size = probability === 0 ? count : size + weights.size * (count - size);
      probability += weights.frequency * ((count > 0 ? 1 : 0) - probability);
    },
  };
}

export function intermittentStart(counts: readonly (number | undefined)[]): IntermittentStart {
  const known = counts.filter((count) => count !== undefined);
  const demanded = known.filter((count) => count > 0);
  if (demanded.length === 0) return { size: 0, probability: 0 };
  return {
    size: demanded.reduce((sum, count) => sum + count, 0) / demanded.length,
    probability: demanded.length / known.length,
  };
}
