import { backtest } from './backtest.ts';
import type { Backtest } from './backtest.ts';
import type { CountDistribution } from './count-distribution.ts';
import { average, knownCounts } from './demand-series.ts';
import type { DemandSeries } from './demand-series.ts';
import { averageMethod, methods } from './methods.ts';
import type { Cycles, Method, MethodName, Weights } from './methods.ts';
import type { Walk } from './walk.ts';

/** What fared best, to be used until the next choice. Plain data. */
export interface ChosenMethod {
  readonly name: MethodName;
  readonly weights: Weights;
  /** How far ahead it was tried; in ms. */
  readonly leadMs: number;
  /** Each method at its best, the simplest first; `deviance` as in `Backtest`. */
  readonly tried: readonly { readonly name: MethodName; readonly weights: Weights; readonly deviance: number }[];
}

export interface Forecast {
  readonly method: MethodName;
  /** How the method fared over the later half of the series. */
  readonly backtest: Backtest;
  /**
   * The orders between two moments (ms since the epoch); of a bucket that is partly meant, that share. What lies before the
   * end of the series has come already, and is no part of it.
   */
  readonly over: (from: number, until: number) => CountDistribution;
}

/**
 * The method and the weights that would have foreseen the later half of the series best, `leadMs` ahead: the weights of each
 * method one after the other over a fixed grid, until none gets better. The same series gives the same choice. This is for once
 * a day; `forecast` costs a hundredth of it and is for every bucket.
 */
export function chooseMethod(series: DemandSeries, leadMs: number): ChosenMethod {
  const ground = groundOf(series, leadMs);
  const tried = methods.filter((method) => isAble(method, ground)).map((method) => bestOf(method, ground));
  const average = bestOf(averageMethod, ground);
  const best = tried.reduce((least, one) => (one.deviance < WORTH_IT * least.deviance ? one : least), average);
  return { name: best.name, weights: best.weights, leadMs, tried: [average, ...tried] };
}

export function forecast(series: DemandSeries, chosen: Omit<ChosenMethod, 'tried'>): Forecast {
  const ground = groundOf(series, chosen.leadMs);
  // What was chosen for a longer series may be more than this one can begin.
  const method = methods.find((one) => one.name === chosen.name && isAble(one, ground)) ?? averageMethod;
  const { walk, result } = walkAlong(ground, method, method === averageMethod ? {} : chosen.weights);
  const dispersion = Math.max(result.windows < ground.cycles.day ? UNPROVEN : 1, result.dispersion);
  const end = series.startAt + series.bucketMs * ground.counts.length;
  const position = (at: number) => Math.max(0, (at - end) / series.bucketMs);
  return {
    method: method.name,
    backtest: result,
    over: (from, until) => ({ mean: meanBetween(walk, position(from), position(until), ground.least), dispersion }),
  };
}

/** A richer method must be better by a hundredth: less is chance. */
const WORTH_IT = 0.99;

/** The dispersion assumed before the backtest of a day says what it is: orders come in batches of about this size. */
const UNPROVEN = 4;

/** The least that is expected of any bucket, as a share of the average: a quiet hour is no promise. */
const LEAST_SHARE = 0.02;

/** What every method is tried on. */
interface Ground {
  readonly counts: readonly (number | undefined)[];
  readonly cycles: Cycles;
  /** Where the first part, to begin from, ends, and the backtest begins: at half, in whole weeks or days where there are some. */
  readonly split: number;
  /** In buckets. */
  readonly horizon: number;
  readonly least: number;
}

function groundOf(series: DemandSeries, leadMs: number): Ground {
  const day = Math.round(86_400_000 / series.bucketMs);
  const cycles = { day, week: 7 * day };
  const counts = knownCounts(series);
  const half = Math.floor(counts.length / 2);
  const whole = [cycles.week, cycles.day, 1].find((cycle) => cycle <= half) ?? 1;
  return {
    counts,
    cycles,
    split: half - (half % whole),
    horizon: Math.max(1, Math.ceil(leadMs / series.bucketMs)),
    least: LEAST_SHARE * average(counts),
  };
}

function isAble(method: Method, { split, cycles }: Ground): boolean {
  return method.trainingBuckets(cycles) <= split;
}

function walkAlong(ground: Ground, method: Method, weights: Weights): { walk: Walk; result: Backtest } {
  const { counts, cycles, split, horizon, least } = ground;
  const walk = method.begin(counts.slice(0, split), weights, cycles);
  return { walk, result: backtest(walk, counts, { from: split, horizon, least }) };
}

/** Cyclic coordinate search from the middle of the grid; it ends, since every round but the last is better than all before. */
function bestOf(method: Method, ground: Ground): ChosenMethod['tried'][number] {
  const deviance = (weights: Weights) => walkAlong(ground, method, weights).result.deviance;
  const middle = Object.entries(method.grid).map(([name, values]) => [name, values[values.length >> 1] ?? 0] as const);
  let weights: Weights = Object.fromEntries(middle);
  let least = deviance(weights);
  for (let before = Infinity; least < before;) {
    before = least;
    for (const [name, values] of Object.entries(method.grid)) {
      for (const value of values.filter((one) => one !== weights[name])) {
        const other = { ...weights, [name]: value };
        const result = deviance(other);
        if (result < least) [weights, least] = [other, result];
      }
    }
  }
  return { name: method.name, weights, deviance: least };
}

/** Between two positions behind the end of the series, in buckets. */
function meanBetween(walk: Walk, from: number, until: number, least: number): number {
  let mean = 0;
  for (let bucket = Math.floor(from); bucket < until; bucket += 1) {
    const share = Math.min(bucket + 1, until) - Math.max(bucket, from);
    mean += share * Math.max(least, walk.expect(bucket + 1));
  }
  return mean;
}
