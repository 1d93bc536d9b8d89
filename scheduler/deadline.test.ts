import { test } from 'tap';

import { deadline } from './deadline.ts';
import type { StageSample } from './deadline.ts';

const rules = { cold: 60_000, floor: 10_000, ceiling: 300_000, factor: 3 };

test('until five boots were measured a stage has its default, or more where the slowest of them took long', (t) => {
  t.same(deadline([], rules), { milliseconds: 60_000, samples: 0, p99: undefined, basis: 'cold' });
  t.same(deadline(took(5_000, 4), rules), { milliseconds: 60_000, samples: 4, p99: 5_000, basis: 'cold' });
  t.match(deadline(took(40_000, 2), rules), { milliseconds: 120_000, basis: 'cold' });
  t.match(deadline(took(200_000, 1), rules), { milliseconds: 300_000, basis: 'cold' }, 'but never above the ceiling');
  t.end();
});

test('few samples widen a deadline, many bring it to the factor', (t) => {
  const of = (count: number) => deadline(took(10_000, count), rules).milliseconds;
  t.same([5, 10, 20, 100, 1_000].map(of), [90_000, 60_000, 45_000, 33_000, 30_300]);
  t.end();
});

test('one outlier in a hundred moves nothing, two do', (t) => {
  const with_ = (outliers: number) => deadline([...took(10_000, 100 - outliers), ...took(50_000, outliers)], rules).p99;
  t.same([0, 1, 2].map(with_), [10_000, 10_000, 50_000]);
  t.end();
});

test('a stage of milliseconds is given the floor, one of minutes the ceiling', (t) => {
  t.match(deadline(took(20, 50), rules), { milliseconds: 10_000, p99: 20, basis: 'floor' });
  t.match(deadline(took(200_000, 50), rules), { milliseconds: 300_000, p99: 200_000, basis: 'ceiling' });
  t.end();
});

test('what is late is no measurement, and two in a row put in doubt what was measured', (t) => {
  const known = took(10_000, 100);
  const late = { milliseconds: 33_000, late: true };
  t.match(deadline([late, ...known], rules), { milliseconds: 33_000, samples: 100, basis: 'measured' });
  t.match(deadline([late, late, ...known], rules), { milliseconds: 300_000, samples: 100, basis: 'doubted' });
  t.match(
    deadline([...took(40_000, 1), late, late, ...known], rules),
    { milliseconds: 32_970, samples: 101, basis: 'measured' },
    'until one comes through',
  );
  t.end();
});

test('what a model needs after a slower firmware is learned from the boots that had all the time there is', (t) => {
  const before = took(10_000, 100);
  const now = [
    ...took(80_000, 3),
    { milliseconds: 33_000, late: true },
    { milliseconds: 33_000, late: true },
    ...before,
  ];
  t.ok(deadline(now, rules).milliseconds > 80_000);
  t.end();
});

function took(milliseconds: number, count: number): StageSample[] {
  return Array.from({ length: count }, () => ({ milliseconds, late: false }));
}
