import { test } from 'tap';

import { chanceOf } from './chance.fixture.ts';
import { stockServing } from './forecast/count-distribution.ts';
import { defaultPoolPolicy, poolTarget } from './pool-target.ts';

const minute = 60_000;
const unlimited = { ...defaultPoolPolicy, floor: undefined, ceiling: undefined };

test('the target is what may be ordered until a machine is warm, at the service level, and says so', (t) => {
  const { target, reasons } = poolTarget(steadily(20), { now: 0, capacity: 1_000, policy: unlimited });
  const mean = 20 * (12 / 60);
  t.equal(target, stockServing({ mean, dispersion: 2 }, 0.99));
  t.ok(target > 2 * mean, 'the mean would not do');
  t.match(reasons, [
    { kind: 'lead-time-demand', machines: target, mean, serviceLevel: 0.99, method: 'level', interval: { low: 0 } },
  ]);
  t.end();
});

test('a longer warm-up and a higher service level want more', (t) => {
  const target = (policy: Partial<typeof unlimited>) =>
    poolTarget(steadily(20), { now: 0, capacity: 1_000, policy: { ...unlimited, ...policy } }).target;
  t.ok(target({ warmUpMs: 30 * minute }) > target({}));
  t.ok(target({ serviceLevel: 0.999 }) > target({}) && target({}) > target({ serviceLevel: 0.8 }));
  t.end();
});

test('by default the pool is between 15 and 20 % of the capacity, and tells which of them decided', (t) => {
  const decide = (perHour: number) =>
    poolTarget(steadily(perHour), { now: 0, capacity: 100, policy: defaultPoolPolicy });
  t.match(decide(1), {
    target: 15,
    reasons: [{ kind: 'floor', machines: 15, share: 0.15 }, { kind: 'lead-time-demand' }],
  });
  t.match(decide(30), { target: 18, reasons: [{ kind: 'lead-time-demand', machines: 18 }] });
  t.match(decide(500), { target: 20, reasons: [{ kind: 'ceiling', machines: 20, share: 0.2 }] });
  t.end();
});

test('without limits it is the capacity at most, and nothing without demand', (t) => {
  const decide = (perHour: number) => poolTarget(steadily(perHour), { now: 0, capacity: 30, policy: unlimited });
  t.match(decide(500), { target: 30, reasons: [{ kind: 'capacity', machines: 30 }, { kind: 'lead-time-demand' }] });
  t.match(decide(0), { target: 0, keep: 0, reasons: [{ kind: 'lead-time-demand', machines: 0, mean: 0 }] });
  t.end();
});

test('on a small fleet a share of a machine is a whole one', (t) => {
  const target = (capacity: number, policy = defaultPoolPolicy) =>
    poolTarget(steadily(100), { now: 0, capacity, policy }).target;
  t.same(
    [0, 1, 5, 6].map((capacity) => target(capacity)),
    [0, 1, 1, 2],
  );
  t.equal(target(100, { ...defaultPoolPolicy, floor: undefined, ceiling: 0.07 }), 7);
  t.equal(target(100, { ...defaultPoolPolicy, floor: 0.3 }), 30, 'and a floor above the ceiling holds');
  t.end();
});

test('machines that will be wanted within the hour are kept', (t) => {
  // One order an hour now; sixty from half past on.
  const rising = {
    method: 'daily' as const,
    over: (from: number, until: number) => {
      const busy = Math.max(0, until - Math.max(from, 30 * minute));
      return { mean: (until - from - busy) / (60 * minute) + busy / minute, dispersion: 1 };
    },
  };
  const now = poolTarget(rising, { now: 0, capacity: 1_000, policy: unlimited });
  const then = poolTarget(rising, { now: 36 * minute, capacity: 1_000, policy: unlimited });
  t.ok(now.target < 5);
  t.equal(now.keep, then.target);
  t.equal(poolTarget(rising, { now: 0, capacity: 1_000, policy: { ...unlimited, keepMs: 0 } }).keep, now.target);
  t.end();
});

test('whatever is forecast, the target lies within its limits, and is no more than what is kept', (t) => {
  const chance = chanceOf(5);
  for (let round = 0; round < 500; round += 1) {
    const capacity = Math.floor(400 * chance());
    const policy = {
      ...defaultPoolPolicy,
      floor: chance() < 0.3 ? undefined : chance(),
      ceiling: chance() < 0.3 ? undefined : chance(),
      serviceLevel: 0.5 + 0.4999 * chance(),
    };
    const { target, keep, reasons } = poolTarget(steadily(400 * chance() ** 4), { now: 0, capacity, policy });
    const least = (policy.floor ?? 0) * capacity;
    const most = Math.max(policy.ceiling ?? 1, policy.floor ?? 0) * capacity;
    t.ok(Number.isInteger(target) && target >= least - 1e-6 && target < most + 1 && target <= capacity, `${target}`);
    t.ok(keep >= target && keep <= capacity);
    t.equal(reasons[0]?.machines, target, 'the first reason decides');
  }
  t.end();
});

function steadily(perHour: number) {
  return {
    method: 'level' as const,
    over: (from: number, until: number) => ({ mean: (perHour * (until - from)) / (60 * minute), dispersion: 2 }),
  };
}
