import { test } from 'tap';

import { countOrders, knownCounts } from './demand-series.ts';

test('orders are counted by complete buckets, which begin at whole hours', (t) => {
  const hour = 3_600_000;
  const at = (hours: number) => Date.UTC(2026, 5, 1) + hours * hour;
  const orders = [at(0.9), at(1), at(1.5), at(3.99), at(4.01)];
  t.same(countOrders(orders, { from: at(0.5), until: at(4.5), bucketMs: hour }), {
    startAt: at(1),
    bucketMs: hour,
    counts: [2, 0, 1],
  });
  t.same(countOrders(orders, { from: at(2.2), until: at(2.9), bucketMs: hour }).counts, [], 'no bucket is complete');
  t.end();
});

test('what is no count is nothing known', (t) => {
  const counts = [3, -1, NaN, Infinity, undefined, 0];
  t.same(knownCounts({ startAt: 0, bucketMs: 1, counts }), [3, undefined, undefined, undefined, undefined, 0]);
  t.end();
});
