/**
 * How many machines of one flavor were asked for in one region, bucket by bucket. Buckets are of UTC: a day has 24 hours in it
 * whatever the clocks on the wall do, and a daily pattern that moves by an hour is learnt like any other change.
 */
export interface DemandSeries {
  /** When the first bucket begins; ms since the epoch. */
  readonly startAt: number;
  /** An hour, or another length of which a day is a whole number. */
  readonly bucketMs: number;
  /** Undefined where nobody knows: the log has a gap there. What is no count (negative, not finite) is nothing known, either. */
  readonly counts: readonly (number | undefined)[];
}

/** Complete buckets alone: what is still filling up at `until` would look like little demand. Times are ms since the epoch. */
export function countOrders(
  orders: Iterable<number>,
  { from, until, bucketMs }: { readonly from: number; readonly until: number; readonly bucketMs: number },
): DemandSeries {
  const startAt = Math.ceil(from / bucketMs) * bucketMs;
  const counts = Array.from({ length: Math.max(0, Math.floor((until - startAt) / bucketMs)) }, () => 0);
  for (const at of orders) {
    const bucket = Math.floor((at - startAt) / bucketMs);
    const count = counts[bucket];
    if (count !== undefined) counts[bucket] = count + 1;
  }
  return { startAt, bucketMs, counts };
}

export function knownCounts({ counts }: DemandSeries): (number | undefined)[] {
  return counts.map((count) => (count !== undefined && Number.isFinite(count) && count >= 0 ? count : undefined));
}

export function average(counts: readonly (number | undefined)[]): number {
  const known = counts.filter((count) => count !== undefined);
  return known.length === 0 ? 0 : known.reduce((sum, count) => sum + count, 0) / known.length;
}
