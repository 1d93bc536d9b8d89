import { test } from 'tap';

import { readReference } from './series.fixture.ts';
import { smoothing, smoothingStart } from './smoothing.ts';

const reference = readReference();
const { counts } = reference.seasonal;
// The same sums in another order: what differs is rounding.
const tolerance = 1e-9;

for (const [title, { weights, start, buckets, expected, ahead }] of [
  ['with one season it foresees every hour as ETS(A,Ad,A) of statsmodels does', reference.oneSeason],
  ['with two seasons, as statsmodels makes of the same state space', reference.twoSeasons],
  ['with errors that are carried over, too', reference.twoSeasonsCarried],
] as const) {
  test(title, (t) => {
    const walk = smoothing(weights, start);
    const differences = counts.slice(0, buckets).map((count, bucket) => {
      const difference = Math.abs(walk.expect(1) - expected[bucket]!);
      walk.see(count);
      return difference;
    });
    t.equal(differences.length, expected.length);
    t.ok(expected.length >= 14 * 24);
    t.ok(Math.max(...differences) < tolerance, `at most ${Math.max(...differences)} apart`);
    const later = ahead.map((value, index) => Math.abs(walk.expect(index + 1) - value));
    t.ok(
      later.length > 0 && Math.max(...later) < tolerance,
      `${later.length} ahead: at most ${Math.max(...later)} apart`,
    );
    t.end();
  });
}

test('an error that is carried over fades from bucket to bucket', (t) => {
  const weights = { level: 0, trend: 0, daily: 0, weekly: 0, carry: 0.5 };
  const walk = smoothing(weights, { level: 3, trend: 0, daily: [], weekly: [] });
  walk.see(11);
  t.same(
    [1, 2, 3].map((ahead) => walk.expect(ahead)),
    [3 + 4, 3 + 2, 3 + 1],
  );
  t.end();
});

test('a gap teaches nothing, and time goes on in it', (t) => {
  const weights = { level: 0.5, trend: 0, daily: 0.5, weekly: 0, carry: 0 };
  const walk = smoothing(weights, { level: 10, trend: 0, daily: [-5, 5], weekly: [] });
  walk.see(undefined);
  t.equal(walk.expect(1), 15, 'the second bucket of the season is next');
  walk.see(undefined);
  t.equal(walk.expect(1), 5);

  const carrying = smoothing({ ...weights, carry: 0.5 }, { level: 10, trend: 0, daily: [], weekly: [] });
  carrying.see(18);
  t.equal(carrying.expect(1), 14 + 4);
  carrying.see(undefined);
  t.equal(carrying.expect(1), 14 + 2, 'what is carried over fades, and teaches nothing a second time');
  t.end();
});

test('a trend is followed, and fades where it leads on', (t) => {
  const weights = { level: 0.5, trend: 0.2, daily: 0, weekly: 0, carry: 0 };
  const walk = smoothing(weights, { level: 0, trend: 0, daily: [], weekly: [] });
  for (let bucket = 0; bucket < 300; bucket += 1) walk.see(bucket);
  const rises = [walk.expect(2) - walk.expect(1), walk.expect(31) - walk.expect(30)];
  t.ok(rises[0]! > 0.5, `rises by ${rises[0]}`);
  t.ok(rises[1]! > 0 && rises[1]! < 0.6 * rises[0]!, `later by ${rises[1]}`);
  t.end();
});

test('it begins with the average, the shape of the day, and the strength of the weekday', (t) => {
  // Two buckets a day, three days a week, two weeks; the third day has half of the others' orders.
  const week = [4, 12, 4, 12, 2, 6];
  const start = smoothingStart([...week, ...week], { day: 2, week: 6, blur: 0 });
  t.equal(start.level, 40 / 6);
  const fitted = week.map((_, bucket) => start.level + start.daily[bucket % 2]! + start.weekly[bucket]!);
  t.ok(
    fitted.every((value, bucket) => Math.abs(value - week[bucket]!) < 1e-12),
    fitted.join(' '),
  );
  t.same(smoothingStart([...week, ...week], { day: 0, week: 0, blur: 0 }), {
    level: 40 / 6,
    trend: 0,
    daily: [],
    weekly: [],
  });
  t.end();
});

test('the shape of the day is drawn softer, over midnight too, and keeps its sum', (t) => {
  const { daily } = smoothingStart([8, 0, 0, 0], { day: 4, week: 0, blur: 1 });
  t.same(daily, [4 - 2, 2 - 2, 0 - 2, 2 - 2]);
  t.end();
});

test('a beginning with gaps, without orders, or with nothing known has no figure that is none', (t) => {
  for (const known of [[], [undefined, undefined, undefined], [0, 0, 0, 0], [undefined, 3]]) {
    const { level, daily, weekly } = smoothingStart(known, { day: 2, week: 6, blur: 0 });
    t.ok([level, ...daily, ...weekly].every(Number.isFinite), JSON.stringify(known));
  }
  t.end();
});
