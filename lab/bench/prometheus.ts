/** What a histogram has counted: how many values were at most `upTo`, ascending, the last of them infinite. */
export interface Buckets {
  readonly count: number;
  readonly buckets: readonly { readonly upTo: number; readonly count: number }[];
}

/** In milliseconds. */
export interface Distribution {
  readonly count: number;
  readonly p50: number;
  readonly p99: number;
}

/** One histogram of seconds in Prometheus' text format, with exactly these labels; empty where there is none. */
export function histogram(text: string, name: string, labels: string): Buckets {
  const lines = text.split('\n');
  const buckets = lines.flatMap((line) => {
    const [, le = '', others = '', count = ''] = /^\w+_bucket\{le="([^"]+)",(.*)\} (\d+)$/.exec(line) ?? [];
    if (!line.startsWith(`${name}_bucket{`) || others !== labels) return [];
    return [{ upTo: le === '+Inf' ? Infinity : Number(le), count: Number(count) }];
  });
  return { count: buckets.at(-1)?.count ?? 0, buckets };
}

/** What came between two readings; a percentile as `histogram_quantile` reckons it. */
export function since(before: Buckets, after: Buckets): Distribution {
  const buckets = after.buckets.map(({ upTo, count }, index) => {
    return { upTo, count: count - (before.buckets[index]?.count ?? 0) };
  });
  const count = after.count - before.count;
  return { count, p50: 1_000 * quantile(buckets, 0.5 * count), p99: 1_000 * quantile(buckets, 0.99 * count) };
}

function quantile(buckets: Buckets['buckets'], rank: number): number {
  const index = buckets.findIndex(({ count }) => count >= rank);
  const [below, found] = [buckets[index - 1] ?? { upTo: 0, count: 0 }, buckets[index]];
  if (found === undefined || found.count === 0) return NaN;
  // Of what lies above the last bound it is known only that it does.
  if (found.upTo === Infinity) return below.upTo;
  return below.upTo + ((found.upTo - below.upTo) * (rank - below.count)) / (found.count - below.count);
}
