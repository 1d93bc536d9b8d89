import { test } from 'tap';

import { chanceOf } from '../chance.fixture.ts';
import { interval } from './count-distribution.ts';
import type { DemandSeries } from './demand-series.ts';
import { chooseMethod, forecast } from './forecast.ts';
import type { Forecast } from './forecast.ts';
import { atWork, counts, hour, hourly, monday, readReference } from './series.fixture.ts';

const lead = hour / 5;

test('people at work are foreseen by the hour and the weekday', (t) => {
  const hours = 63 * 24;
  const { method, over } = foresee(hourly(counts(1, hours, atWork)));
  t.equal(method, 'daily-weekly');
  const errors = Array.from({ length: 168 }, (_, ahead) => meanOf(over, hours + ahead) - atWork(hours + ahead));
  const off = Math.sqrt(errors.reduce((sum, error) => sum + error ** 2, 0) / 168);
  t.ok(off < 0.8, `off by ${off} where ${atWork(0)} to ${atWork(12)} are right`);
  t.end();
});

test('it foresees unseen weeks no worse than what statsmodels fits to the same series', (t) => {
  const { seasonal, fitted } = readReference();
  for (const { period, unseen, squared } of fitted) {
    const known = seasonal.counts.length - unseen;
    const chosen = chooseMethod(hourly(seasonal.counts.slice(0, known)), hour);
    const errors = seasonal.counts.slice(known).map((count, index) => {
      const { over } = forecast(hourly(seasonal.counts.slice(0, known + index)), chosen);
      return (meanOf(over, known + index) - count) ** 2;
    });
    const ours = errors.reduce((sum, error) => sum + error, 0) / unseen;
    t.ok(ours < squared, `period ${period}: squared error ${ours}, of statsmodels ${squared}`);
  }
  t.end();
});

test('the hour that came last counts, and so does what day it was', (t) => {
  const series = counts(2, 28 * 24, atWork);
  const before = foresee(hourly(series));
  const after = foresee(hourly([...series.slice(0, -1), series.at(-1)! + 9]));
  t.ok(meanOf(after.over, 28 * 24) > meanOf(before.over, 28 * 24));
  const later = foresee({ ...hourly(series), startAt: monday + 24 * hour });
  t.same(said(later, 29 * 24), said(before, 28 * 24), 'the same counts a day later: the same a day later');
  t.end();
});

test('whatever came, the same is said again, and it is a distribution: finite, and never below nought', (t) => {
  for (const series of oddSeries()) {
    const answer = foresee(hourly(series));
    const isSound = ([mean, dispersion]: readonly number[]) =>
      Number.isFinite(mean) && mean! >= 0 && Number.isFinite(dispersion) && dispersion! >= 1;
    t.same(
      said(answer, series.length).filter((one) => !isSound(one)),
      [],
    );
    t.same(said(foresee(hourly(series)), series.length), said(answer, series.length));
  }
  t.end();
});

test('k times as many orders give a forecast k times as high', (t) => {
  for (const series of [counts(4, 60 * 24, atWork), counts(5, 60 * 24, () => 0.1), counts(6, 5 * 24, () => 3)]) {
    const [once, often] = [1, 7].map((k) => foresee(hourly(series.map((count) => k * count))));
    t.equal(often!.method, once!.method);
    for (const ahead of [0, 9, 70]) {
      const [small, large] = [once!, often!].map(({ over }) => meanOf(over, series.length + ahead));
      t.ok(Math.abs(large! - 7 * small!) < 1e-6 * large!, `${7 * small!}, ${large}`);
    }
  }
  t.end();
});

test('orders that come one by one are as scattered as Poisson, and clusters by their size', (t) => {
  const alone = foresee(hourly(counts(7, 60 * 24, atWork)));
  t.ok(alone.over(0, 1).dispersion < 1.2, `${alone.over(0, 1).dispersion}`);
  const clusters = foresee(hourly(counts(8, 60 * 24, () => 1, { batch: 10 })));
  const { dispersion } = clusters.over(0, 1);
  t.ok(dispersion > 8 && dispersion < 12, `${dispersion}`);
  t.end();
});

test('an interval of nine in ten holds about nine in ten of the hours that come', (t) => {
  for (const [title, mean, batch] of [
    ['one by one', atWork, 1],
    ['in clusters', () => 6, 4],
    ['now and then', () => 0.3, 1],
  ] as const) {
    const [known, hours] = [42 * 24, 70 * 24];
    const series = counts(9, hours, mean, { batch });
    const chosen = chooseMethod(hourly(series.slice(0, known)), hour);
    const inside = series.slice(known).filter((count, index) => {
      const at = monday + (known + index) * hour;
      const { low, high } = interval(forecast(hourly(series.slice(0, known + index)), chosen).over(at, at + hour), 0.9);
      return low <= count && count <= high;
    });
    const share = inside.length / (hours - known);
    // Counts are whole numbers: an interval holds at least its share, and more where there are few.
    t.ok(share > 0.88 && share < 0.99, `${title}: ${share}`);
  }
  t.end();
});

test('little is known of a few hours: their average, and that orders may come in batches', (t) => {
  const { method, over } = foresee(hourly([2, 0, 1, 1]));
  t.equal(method, 'average');
  t.equal(meanOf(over, 4), 1);
  t.ok(over(0, 1).dispersion >= 4);
  t.equal(meanOf(foresee(hourly([])).over, 0), 0, 'and of none, nothing');
  t.end();
});

test('a pattern that moves by three hours is foreseen again after four weeks', (t) => {
  const moved = 42 * 24;
  const mean = (bucket: number) => atWork(bucket < moved ? bucket : bucket + 3);
  const hours = moved + 28 * 24;
  const { over } = foresee(hourly(counts(10, hours, mean)));
  const errors = (shape: (bucket: number) => number) =>
    Array.from({ length: 168 }, (_, ahead) => (meanOf(over, hours + ahead) - shape(hours + ahead)) ** 2).reduce(
      (sum, error) => sum + error,
      0,
    );
  t.ok(errors(mean) < 0.3 * errors(atWork), `${errors(mean)}, ${errors(atWork)} for the pattern before`);
  t.end();
});

test('one great burst long ago is forgotten, and a gap is no quiet time', (t) => {
  const series: (number | undefined)[] = counts(11, 60 * 24, () => 3);
  const burst = series.with(20 * 24, 400);
  t.ok(Math.abs(meanOf(foresee(hourly(burst)).over, 60 * 24) - 3) < 1, 'the burst');
  const gap = series.map((count, bucket) => (bucket > 50 * 24 && bucket < 55 * 24 ? undefined : count));
  t.ok(Math.abs(meanOf(foresee(hourly(gap)).over, 60 * 24) - 3) < 1, 'the gap');
  t.end();
});

test('a part of an hour has its share of the orders, and what is past has none', (t) => {
  const { over } = foresee(hourly(counts(12, 20 * 24, () => 5)));
  const end = monday + 20 * 24 * hour;
  t.ok(Math.abs(over(end, end + hour / 4).mean - over(end, end + hour).mean / 4) < 1e-9);
  const across = over(end + hour / 2, end + 2.5 * hour).mean;
  const parts = [0.5, 1, 2].map((from, index) => over(end + from * hour, end + [1, 2, 2.5][index]! * hour).mean);
  t.ok(Math.abs(across - parts.reduce((sum, part) => sum + part, 0)) < 1e-9);
  t.equal(over(end - 9 * hour, end).mean, 0);
  t.end();
});

test('days of ten-minute buckets are seasons as days of hours are', (t) => {
  const series = {
    startAt: monday,
    bucketMs: hour / 6,
    counts: counts(13, 28 * 144, (bucket) => atWork(bucket / 6) / 2),
  };
  const { method, over } = forecast(series, chooseMethod(series, lead));
  t.match(method, 'daily');
  const at = (hours: number) => over(monday + (28 * 24 + hours) * hour, monday + (28 * 24 + hours + 1) * hour).mean;
  t.ok(at(12) > 2 * at(0), `${at(0)} by night, ${at(12)} by day`);
  t.end();
});

test('what was chosen for a long series is not asked of one that is too short for it', (t) => {
  const chosen = chooseMethod(hourly(counts(1, 42 * 24, atWork)), lead);
  t.equal(chosen.name, 'daily-weekly');
  t.equal(forecast(hourly([1, 2, 3]), chosen).method, 'average');
  t.end();
});

function foresee(series: DemandSeries): Forecast {
  return forecast(series, chooseMethod(series, lead));
}

/** Of one hour of a series that begins on the Monday. */
function meanOf(over: Forecast['over'], bucket: number): number {
  return over(monday + bucket * hour, monday + (bucket + 1) * hour).mean;
}

/** Means and dispersions of the next two weeks. */
function said({ over }: Forecast, length: number): [number, number][] {
  return Array.from({ length: 14 * 24 }, (_, ahead) => {
    const at = monday + (length + ahead) * hour;
    const { mean, dispersion } = over(at, at + lead);
    return [mean, dispersion];
  });
}

function oddSeries(): (number | undefined)[][] {
  const chance = chanceOf(99);
  const random = (length: number, make: () => number | undefined) => Array.from({ length }, make);
  return [
    [],
    [0],
    [7],
    [undefined],
    random(400, () => 0),
    random(400, () => undefined),
    random(1_000, () => (chance() < 0.5 ? undefined : Math.floor(9 * chance()))),
    random(1_000, () => (chance() < 0.002 ? 500 : 0)),
    random(700, () => Math.floor(1e6 * chance())),
    random(49, () => Math.floor(3 * chance())),
    random(337, () => NaN),
    [...random(500, () => 0), ...random(200, () => 40)],
    [...random(500, () => 40), ...random(500, () => 0)],
    random(900, () => -3),
  ];
}
