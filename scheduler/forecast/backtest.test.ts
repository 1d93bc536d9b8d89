import { test } from 'tap';

import { backtest } from './backtest.ts';
import type { Walk } from './walk.ts';

test('every window is foreseen from what came before it, and from nothing else', (t) => {
  const seen: (number | undefined)[] = [];
  const seenWhenAsked: number[] = [];
  const walk: Walk = {
    expect: () => {
      seenWhenAsked.push(seen.length);
      return 1;
    },
    see: (count) => seen.push(count),
  };
  backtest(walk, [5, 6, 7, 8, 9], { from: 2, horizon: 1, least: 0 });
  t.same(seenWhenAsked, [2, 3, 4]);
  t.same(seen, [5, 6, 7, 8, 9], 'and is then walked to the end');
  t.end();
});

test('perfect foresight deviates by nothing, and a worse one by more', (t) => {
  const counts = [4, 0, 2, 4, 0, 2];
  const deviance = (expected: number[]) => {
    let at = 0;
    const walk = { expect: (ahead: number) => expected[at + ahead - 1]!, see: () => void (at += 1) };
    return backtest(walk, counts, { from: 0, horizon: 1, least: 0 }).deviance;
  };
  t.equal(deviance(counts), 0);
  t.ok(deviance([2, 2, 2, 2, 2, 2]) > 0);
  t.ok(deviance([1, 3, 2, 1, 3, 2]) > deviance([2, 2, 2, 2, 2, 2]));
  t.end();
});

test('what several buckets hold together is held against what was expected of them together', (t) => {
  const walk = { expect: (ahead: number) => 10 * ahead, see: () => undefined };
  const result = backtest(walk, [0, 20, 30, undefined, 40, 20], { from: 1, horizon: 2, least: 0 });
  t.equal(result.windows, 2, 'windows that touch the gap or the end are left out');
  t.equal(result.dispersion, ((50 - 30) ** 2 + (60 - 30) ** 2) / 60);
  t.end();
});

test('less than the least is never expected, and no orders at all are no surprise', (t) => {
  const walk = { expect: () => -3, see: () => undefined };
  t.equal(backtest(walk, [2, 2], { from: 0, horizon: 1, least: 1 }).dispersion, 1);
  t.same(backtest(walk, [0, 0], { from: 0, horizon: 1, least: 0 }), { deviance: 0, dispersion: 1, windows: 2 });
  t.end();
});
