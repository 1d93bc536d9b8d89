/** Plain JSON. Durations in ms; 0 when nothing was recorded. */
export interface Distribution {
  readonly count: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
  /** Every value lies in one of these: how many were at most `upTo` and above the one before; ascending. */
  readonly buckets: readonly { readonly upTo: number; readonly count: number }[];
}

/** Durations in buckets each 2 % wider than the one before: what it tells is at most 2 % too high, whatever came. */
export class Histogram {
  readonly #counts = new Map<number, number>();
  #count = 0;
  #max = 0;

  record(ms: number): void {
    const bucket = Math.max(0, Math.ceil(Math.log(Math.max(ms, LEAST) / LEAST) / WIDTH));
    this.#counts.set(bucket, (this.#counts.get(bucket) ?? 0) + 1);
    this.#count++;
    this.#max = Math.max(this.#max, ms);
  }

  distribution(): Distribution {
    const buckets = [...this.#counts]
      .sort(([one], [other]) => one - other)
      .map(([bucket, count]) => ({ upTo: rounded(LEAST * Math.exp(bucket * WIDTH)), count }));
    const percentile = (share: number) => {
      let left = Math.ceil(share * this.#count);
      const found = buckets.find(({ count }) => (left -= count) <= 0);
      return Math.min(found?.upTo ?? 0, rounded(this.#max));
    };
    const [p50, p90, p99] = [percentile(0.5), percentile(0.9), percentile(0.99)];
    return { count: this.#count, p50, p90, p99, max: rounded(this.#max), buckets };
  }
}

const LEAST = 0.01;
const WIDTH = Math.log(1.02);

function rounded(ms: number): number {
  return Math.ceil(ms * 1000) / 1000;
}
