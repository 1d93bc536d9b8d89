import { test } from 'tap';

import { histogram, since } from './prometheus.ts';

const text = (counts: readonly number[]) =>
  ['0.001', '0.005', '+Inf'].map((le, index) => `x_seconds_bucket{le="${le}",stage="a"} ${counts[index]}`).join('\n') +
  '\nx_seconds_bucket{le="0.001",stage="b"} 7\nx_seconds_sum{stage="a"} 3\n';

test('percentiles are those of what came between two readings', (t) => {
  const [before, after] = [text([100, 100, 100]), text([150, 200, 200])].map((each) =>
    histogram(each, 'x_seconds', 'stage="a"'),
  );
  t.same(since(before!, after!), { count: 100, p50: 1, p99: 1 + 4 * 0.98 });
  t.end();
});

test('what lies above the last bound is told as that bound, and no reading as no number', (t) => {
  const none = histogram('', 'x_seconds', 'stage="a"');
  t.same(since(none, histogram(text([0, 0, 10]), 'x_seconds', 'stage="a"')), { count: 10, p50: 5, p99: 5 });
  t.same(since(none, none), { count: 0, p50: NaN, p99: NaN });
  t.end();
});
