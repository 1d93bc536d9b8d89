import type { Walk } from './walk.ts';

/** What a method would have said of the counts that were to come, at every bucket from `from` on; and how it compares. */
export interface Backtest {
  /** Poisson deviance, averaged over the windows: small errors matter where little is expected. Nought is perfect. */
  readonly deviance: number;
  /** Squared errors in all, over expected counts in all: the variance-to-mean ratio of what was not foreseen. */
  readonly dispersion: number;
  readonly windows: number;
}

/**
 * Walks a method along a series to its end, asking before every bucket what the next `horizon` buckets hold together (rolling
 * origin). Windows that touch a gap are left out. `least` is the smallest mean a bucket may be said to have.
 */
export function backtest(
  walk: Walk,
  counts: readonly (number | undefined)[],
  { from, horizon, least }: { readonly from: number; readonly horizon: number; readonly least: number },
): Backtest {
  let [deviance, squares, expectedInAll, windows] = [0, 0, 0, 0];
  for (const [bucket, count] of counts.entries()) {
    const came = bucket < from ? undefined : inAll(counts, bucket, horizon);
    if (came !== undefined) {
      let expected = 0;
      for (let ahead = 1; ahead <= horizon; ahead += 1) expected += Math.max(least, walk.expect(ahead));
      deviance += poissonDeviance(came, expected);
      squares += (came - expected) ** 2;
      expectedInAll += expected;
      windows += 1;
    }
    walk.see(count);
  }
  return {
    deviance: windows === 0 ? 0 : deviance / windows,
    dispersion: expectedInAll === 0 ? 1 : squares / expectedInAll,
    windows,
  };
}

function inAll(counts: readonly (number | undefined)[], from: number, buckets: number): number | undefined {
  let sum = 0;
  for (let bucket = from; bucket < from + buckets; bucket += 1) {
    const count = counts[bucket];
    if (count === undefined) return undefined;
    sum += count;
  }
  return sum;
}

function poissonDeviance(count: number, mean: number): number {
  return 2 * ((count === 0 ? 0 : count * Math.log(count / mean)) - (count - mean));
}
