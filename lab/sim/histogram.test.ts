import { test } from 'tap';

import { Histogram } from './histogram.ts';

test('percentiles are at most two per cent too high, and never too low', async (t) => {
  const histogram = new Histogram();
  const values = Array.from({ length: 10_000 }, (_, index) => ((index * 7_919) % 10_000) / 10 + 0.1);
  for (const value of values) histogram.record(value);
  const { count, p50, p90, p99, max, buckets } = histogram.distribution();
  t.equal(count, 10_000);
  t.equal(max, 1_000);
  for (const [told, right] of [
    [p50, 500],
    [p90, 900],
    [p99, 990],
  ] as const) {
    t.ok(told >= right && told <= right * 1.02, `${told} for ${right}`);
  }
  t.equal(
    buckets.reduce((sum, bucket) => sum + bucket.count, 0),
    10_000,
  );
  t.strictSame(
    buckets,
    buckets.toSorted((one, other) => one.upTo - other.upTo),
  );
});

test('one slow answer in a thousand is the greatest, and not the 99th percentile', async (t) => {
  const histogram = new Histogram();
  for (let index = 0; index < 999; index++) histogram.record(1);
  histogram.record(5_000);
  const { p99, max } = histogram.distribution();
  t.ok(p99 >= 1 && p99 <= 1.02);
  t.equal(max, 5_000);
});

test('nothing recorded is no time, and no time is recorded as the least', async (t) => {
  t.match(new Histogram().distribution(), { count: 0, p50: 0, p99: 0, max: 0, buckets: [] });
  const histogram = new Histogram();
  histogram.record(0);
  t.match(histogram.distribution(), { count: 1, p50: 0, max: 0, buckets: [{ upTo: 0.01, count: 1 }] });
});
