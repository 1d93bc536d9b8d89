import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { chanceOf } from '../chance.fixture.ts';
import type { DemandSeries } from './demand-series.ts';
import type { IntermittentStart, IntermittentWeights } from './intermittent.ts';
import type { SmoothingStart, SmoothingWeights } from './smoothing.ts';

export const hour = 3_600_000;
/** A Monday. */
export const monday = Date.UTC(2026, 5, 1);

/** Counts of hours from a Monday on. */
export function hourly(counts: readonly (number | undefined)[]): DemandSeries {
  return { startAt: monday, bucketMs: hour, counts };
}

/** Counts about a mean that changes, in clusters of `batch` machines; the same seed gives the same counts. */
export function counts(
  seed: number,
  hours: number,
  mean: (bucket: number) => number,
  { batch = 1 }: { batch?: number } = {},
): number[] {
  const chance = chanceOf(seed);
  return Array.from({ length: hours }, (_, bucket) => batch * poisson(chance, mean(bucket) / batch));
}

/** Four orders an hour on average, at most by day, and half as many at weekends. */
export function atWork(bucket: number): number {
  const weekday = Math.floor(bucket / 24) % 7 < 5 ? 1 : 0.5;
  return weekday * (4.6 - 4 * Math.cos((2 * Math.PI * (bucket % 24)) / 24));
}

/** What `reference.py` wrote. */
export interface Reference {
  readonly seasonal: { readonly counts: number[] };
  readonly bursty: { readonly counts: number[] };
  readonly oneSeason: ReferenceWalk;
  readonly twoSeasons: ReferenceWalk;
  readonly twoSeasonsCarried: ReferenceWalk;
  readonly intermittent: {
    readonly weights: IntermittentWeights;
    readonly start: IntermittentStart;
    readonly buckets: number;
    readonly croston: number;
    readonly tsb: number;
  };
  /** Mean, dispersion, level, quantile. */
  readonly quantiles: [number, number, number, number][];
  /** The mean squared error over the last buckets, each foreseen from all before it. */
  readonly fitted: { readonly period: number; readonly unseen: number; readonly squared: number }[];
}

interface ReferenceWalk {
  readonly weights: SmoothingWeights;
  readonly start: SmoothingStart;
  readonly buckets: number;
  /** Of each bucket, before its count was seen; then of those behind the last. */
  readonly expected: number[];
  readonly ahead: number[];
}

export function readReference(): Reference {
  return JSON.parse(readFileSync(join(import.meta.dirname, 'reference.json'), 'utf8')) as Reference;
}

// Knuth's multiplication; means are small here.
function poisson(chance: () => number, mean: number): number {
  let count = -1;
  for (let product = 1; product > Math.exp(-mean); product *= chance()) count += 1;
  return Math.max(0, count);
}
