import { test } from 'tap';

import { readTrace } from '../traces/trace-file.ts';
import { fixed, forecasts, foreseeing, lawful } from './pool-policies.ts';
import { replay, WARM_UP_S } from './pool-replay.ts';

const hour = 3_600;
const day = 24 * hour;

test('a static pool hits while it has machines, and an hour of n idle machines is n machine-hours', (t) => {
  // Three at once, of two that wait; an hour later both are up again.
  const orders = [2 * hour, 2 * hour + 1, 2 * hour + 2, 3 * hour];
  const { hits, idleHours, powerOns } = replay({ orders, capacity: 10 }, fixed(2), {
    countFrom: hour,
    until: 4 * hour,
  });
  t.equal(hits, 3);
  t.equal(powerOns, 3, 'one for each that was taken');
  t.ok(Math.abs(idleHours - 6) < 1e-9, `${idleHours}: what is taken is replaced in the same second`);
  t.end();
});

test('a machine that is taken is missed for as long as another warms', (t) => {
  const again = (after: number) =>
    replay({ orders: [day, day + after], capacity: 4 }, fixed(1), { countFrom: 0, until: 2 * day }).hits;
  t.equal(again(WARM_UP_S.least - 1), 1);
  t.equal(again(WARM_UP_S.most + 1), 2);
  t.end();
});

test('what comes before the days that count is not counted', (t) => {
  const span = { countFrom: 4 * hour, until: 6 * hour };
  const result = replay({ orders: [hour, 5 * hour], capacity: 4 }, fixed(1), span);
  t.match(result, { orders: 1, hits: 1, powerOns: 1 });
  t.ok(Math.abs(result.idleHours - 2) < 1e-9, `${result.idleHours}`);
  t.end();
});

test('a pool whose target falls is drained, and idles less', (t) => {
  const falling = (at: number) => (at < 2 * hour ? { target: 6, keep: 6 } : { target: 2, keep: 2 });
  const { idleHours } = replay({ orders: [], capacity: 20 }, falling, { countFrom: hour, until: 3 * hour });
  t.ok(idleHours > 8 - 1e-9 && idleHours < 8.5, `${idleHours}`);
  t.end();
});

test('what is said at a moment does not change with what comes after it', (t) => {
  const { orders } = readTrace('seasonal');
  const until = 16 * day;
  const past = orders.filter((at) => at < until);
  const other = [...past, ...past.map((at) => until + Math.floor(at / 7))];
  const [one, two] = [orders, other].map((all) => foreseeing(forecasts({ orders: all }, 18), 232, 0.99));
  const moments = Array.from({ length: 16 * 24 * 4 }, (_, quarter) => quarter * 900 + 7);
  const differ = (at: number) => one!(at).target !== two!(at).target || one!(at).keep !== two!(at).keep;
  t.same(moments.filter(differ), []);
  t.ok(differ(until + 12 * hour) || differ(until + day), 'and what is known by then does matter');
  t.end();
});

test('a moment is foreseen from the complete hours before it', (t) => {
  const burst = 10 * 24;
  const quiet = readTrace('growing').orders.filter((at) => Math.floor(at / hour) !== burst);
  const busy = [...quiet, ...Array.from({ length: 200 }, (_, second) => burst * hour + second)].sort((a, b) => a - b);
  const [without, having] = [quiet, busy].map((orders) => forecasts({ orders }, 11));
  const said = (hourly: typeof without, index: number) => {
    const at = Date.UTC(2026, 5, 1) + index * hour * 1_000;
    return hourly![index]!.over(at, at + hour * 1_000);
  };
  t.same(said(having, burst), said(without, burst), 'the hour of the burst does not know of it');
  t.ok(said(having, burst + 1).mean > said(without, burst + 1).mean, 'the next does');
  t.end();
});

test('the law of a trace has as many orders as the trace', (t) => {
  for (const name of ['seasonal', 'bursty', 'growing']) {
    const { orders } = readTrace(name);
    const begin = Date.UTC(2026, 5, 1);
    const mean = lawful(name).reduce((sum, { over }, index) => {
      const at = begin + index * hour * 1_000;
      return sum + over(at, at + hour * 1_000).mean;
    }, 0);
    // Clusters scatter sixteen times as much as orders one by one.
    const scatter = Math.sqrt((name === 'bursty' ? 16 : 1.5) * mean);
    t.ok(Math.abs(orders.length - mean) < 4 * scatter, `${name}: ${orders.length}, ${mean.toFixed(0)} by law`);
  }
  t.end();
});
