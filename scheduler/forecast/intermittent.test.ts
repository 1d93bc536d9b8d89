import { test } from 'tap';

import { croston, intermittentStart, tsb } from './intermittent.ts';
import { readReference } from './series.fixture.ts';

const { bursty, intermittent: reference } = readReference();

for (const [name, method] of [
  ['croston', croston],
  ['tsb', tsb],
] as const) {
  test(`${name} is the smoothing of sizes and frequencies that statsmodels makes`, (t) => {
    const walk = method(reference.weights, reference.start);
    for (const count of bursty.counts.slice(0, reference.buckets)) walk.see(count);
    t.ok(Math.abs(walk.expect(1) - reference[name]) < 1e-9, `${walk.expect(1)}, ${reference[name]}`);
    t.equal(walk.expect(100), walk.expect(1), 'it knows no season');
    t.end();
  });

  test(`${name} learns nothing from a gap, and begins with the first order where there was none before`, (t) => {
    const walk = method({ size: 0.1, frequency: 0.1 }, intermittentStart([0, 0]));
    t.equal(walk.expect(1), 0);
    walk.see(undefined);
    walk.see(6);
    const expected = walk.expect(1);
    t.ok(expected > 0 && expected <= 6, `${expected}`);
    walk.see(undefined);
    t.equal(walk.expect(1), expected);
    t.end();
  });
}

test('long silence talks TSB out of its orders, and not Croston', (t) => {
  const weights = { size: 0.1, frequency: 0.05 };
  const start = intermittentStart([0, 4, 0, 4]);
  const walks = [croston(weights, start), tsb(weights, start)];
  const before = walks.map((walk) => walk.expect(1));
  for (const walk of walks) for (let bucket = 0; bucket < 200; bucket += 1) walk.see(0);
  t.equal(walks[0]!.expect(1), before[0]);
  t.ok(walks[1]!.expect(1) < before[1]! / 1_000);
  t.end();
});
