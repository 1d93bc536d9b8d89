import { test } from 'tap';

import { warmUp } from './warm-up.ts';

const minutes = (...each: number[]) => each.map((minute) => minute * 60_000);
const [configured = NaN] = minutes(12);

test('a machine is taken to need what nine in ten took', (t) => {
  t.same(warmUp(minutes(9, 3, 1, 10, 8, 7, 6, 5, 4, 2), configured), {
    ...{ milliseconds: 9 * 60_000, samples: 10, basis: 'measured' },
  });
  t.end();
});

test('until five were measured, what people said stands, unless one took longer', (t) => {
  const [longest = NaN] = minutes(20);
  t.same(warmUp([], configured), { milliseconds: configured, samples: 0, basis: 'configured' });
  t.same(warmUp(minutes(2, 3, 4, 5), configured), { milliseconds: configured, samples: 4, basis: 'configured' });
  t.same(warmUp(minutes(2, 20), configured), { milliseconds: longest, samples: 2, basis: 'configured' });
  t.equal(warmUp(minutes(2, 3, 4, 5, 5), configured).basis, 'measured');
  t.end();
});

test('no pool goes by what no server can do, nor by what is broken', (t) => {
  t.same(warmUp(minutes(0, 0, 0, 0, 0), configured), { milliseconds: 60_000, samples: 5, basis: 'least' });
  t.same(warmUp(minutes(90, 90, 90, 90, 90), configured), { milliseconds: 60 * 60_000, samples: 5, basis: 'most' });
  t.end();
});
