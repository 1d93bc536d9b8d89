import { test } from 'tap';

import { chanceOf } from '../chance.fixture.ts';
import { interval, quantile, stockServing } from './count-distribution.ts';
import { readReference } from './series.fixture.ts';

test('quantiles are those of the negative binomial and Poisson distributions of scipy', (t) => {
  const { quantiles } = readReference();
  t.equal(quantiles.length, 210);
  const wrong = quantiles.filter(
    ([mean, dispersion, level, expected]) => quantile({ mean, dispersion }, level) !== expected,
  );
  t.same(wrong, []);
  t.end();
});

test('the interval holds as much above as below', (t) => {
  const distribution = { mean: 20, dispersion: 3 };
  t.same(interval(distribution, 0.9), { low: quantile(distribution, 0.05), high: quantile(distribution, 0.95) });
  t.end();
});

test('orders one by one are served while fewer than the stock came before', (t) => {
  const distribution = { mean: 4, dispersion: 1 };
  for (const level of [0.5, 0.9, 0.99, 0.9999]) {
    t.equal(stockServing(distribution, level), quantile(distribution, level) + 1);
  }
  t.equal(stockServing({ mean: 0, dispersion: 3 }, 0.99), 0);
  for (const level of [0, 1, NaN]) t.throws(() => stockServing(distribution, level), RangeError);
  t.end();
});

test('a stock serves the share of orders that it is for, as played with batches', (t) => {
  for (const [mean, dispersion, level] of [
    [4, 3, 0.9],
    [0.5, 6, 0.95],
    [20, 2, 0.99],
  ] as const) {
    const stock = stockServing({ mean, dispersion }, level);
    const [served, less] = [stock, stock - 1].map((size) => servedBy(size, { mean, dispersion }));
    t.ok(served! > level - 0.004 && less! < level + 0.004, `${stock}: ${served}, one less: ${less}`);
  }
  t.end();
});

/** A stock that is made up for a unit of time after each order, under batches of logarithmic size at random times. */
function servedBy(stock: number, { mean, dispersion }: { mean: number; dispersion: number }): number {
  const chance = chanceOf(11);
  const ratio = (dispersion - 1) / dispersion;
  const batchesPerUnit = (mean * -Math.log1p(-ratio) * (1 - ratio)) / ratio;
  const batchSize = () => {
    let [size, weight, left] = [1, ratio / -Math.log1p(-ratio), chance()];
    while (left > weight) {
      left -= weight;
      weight *= (ratio * size) / (size + 1);
      size += 1;
    }
    return size;
  };
  let [now, orders, hits] = [0, 0, 0];
  let missing: number[] = [];
  while (orders < 300_000) {
    now += -Math.log(1 - chance()) / batchesPerUnit;
    missing = missing.filter((at) => at > now - 1);
    for (let left = batchSize(); left > 0; left -= 1) {
      orders += 1;
      if (missing.length < stock) hits += 1;
      missing.push(now);
    }
  }
  return hits / orders;
}

test('no demand has no quantile above nought, and a level that is no probability is refused', (t) => {
  t.equal(quantile({ mean: 0, dispersion: 5 }, 0.999999), 0);
  for (const level of [0, 1, -0.1, NaN]) t.throws(() => quantile({ mean: 1, dispersion: 1 }, level), RangeError);
  for (const mean of [NaN, Infinity]) t.throws(() => quantile({ mean, dispersion: 1 }, 0.5), RangeError);
  t.end();
});

test('a level so near to 1 that sums cannot reach it has an answer', (t) => {
  const count = quantile({ mean: 3, dispersion: 2 }, 1 - 1e-16);
  t.ok(count > 30 && count < 300, `${count}`);
  t.end();
});
