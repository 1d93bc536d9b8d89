import { test } from 'tap';

import { lessIsBetter, median, medianInterval, moreIsBetter, percentile, report, table } from './report.ts';

const measured = { case: 'a case', unit: 'per s', peerName: 'a peer', aim: 2 };

test('a higher ratio is better for us, for rates and for times', async (t) => {
  t.match(moreIsBetter({ ...measured, ours: 300, peer: 100 }), { ratio: 3, met: true });
  t.match(moreIsBetter({ ...measured, ours: 100, peer: 100 }), { ratio: 1, met: false });
  t.match(lessIsBetter({ ...measured, unit: 'ms', ours: 10, peer: 20 }), { ratio: 2, met: true });
  t.match(lessIsBetter({ ...measured, unit: 'ms', ours: 40, peer: 20 }), { ratio: 0.5, met: false });
});

test('an aim is judged by what was measured, not by what is shown', async (t) => {
  t.match(moreIsBetter({ ...measured, ours: 1999.9, peer: 1000 }), { ratio: 2, met: false });
});

test('a report holds the fields others read, and the table one line a row', async (t) => {
  const row = moreIsBetter({ ...measured, ours: 300, peer: 100 });
  const written = await report({ name: 'demo' }, [row]);
  t.strictSame(Object.keys(written), ['name', 'date', 'commit', 'machine', 'rows']);
  t.strictSame(Object.keys(row), ['case', 'unit', 'ours', 'peer', 'peerName', 'ratio', 'aim', 'met']);
  t.match(table(written), /^a case {2}per s {2}300 {3}100 {3}a peer {2}3 × {4}≥ 2 × {2}met$/m);
});

test('what the words of a bench mean stands in its report, above the table', async (t) => {
  const written = await report({ name: 'demo', definitions: ['wait: until somebody comes'] }, []);
  t.match(written, { definitions: ['wait: until somebody comes'] });
  t.match(table(written), /^wait: until somebody comes$[\s\S]*^case/m);
});

test('medians and percentiles are of what was measured', async (t) => {
  t.equal(median([3, 1, 2]), 2);
  t.equal(median([4, 1, 2, 3]), 2.5);
  const hundred = Array.from({ length: 100 }, (_, index) => 100 - index);
  t.equal(percentile(hundred, 0.99), 99);
  t.equal(percentile([7], 0.99), 7);
});

test('the median is told with where it may be: a sign test’s interval', (t) => {
  const values = (count: number) => Array.from({ length: count }, (_, index) => count - index);
  t.same(medianInterval(values(3)), [1, 3], 'too few to say: their range');
  // 1 - 2/2^7 = 98.4 %; one in from each end would be 87.5 %.
  t.same(medianInterval(values(7)), [1, 7]);
  // 97.9 %; two in from each end would be 89.1 %.
  t.same(medianInterval(values(10)), [2, 9]);
  // As tables of the sign test have it.
  t.same(medianInterval(values(20)), [6, 15]);
  t.end();
});
