import { test } from 'tap';

import { nearestRank } from './nearest-rank.ts';

test('the nearest rank is always a time that was measured', (t) => {
  const hundred = Array.from({ length: 100 }, (_, index) => index + 1);
  t.equal(nearestRank(hundred, 0.5), 50);
  t.equal(nearestRank(hundred, 0.99), 99);
  t.equal(nearestRank(hundred, 1), 100);
  t.equal(nearestRank([15, 20, 35, 40, 50], 0.4), 20);
  t.equal(nearestRank([7], 0.99), 7, 'of one, that one');
  t.equal(nearestRank([1, 9], 0.5), 1);
  t.equal(nearestRank([1, 9], 0.51), 9);
  t.end();
});
