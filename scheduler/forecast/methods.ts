import { croston, intermittentStart, tsb } from './intermittent.ts';
import type { IntermittentWeights } from './intermittent.ts';
import { smoothing, smoothingStart } from './smoothing.ts';
import type { SmoothingWeights } from './smoothing.ts';
import type { Walk } from './walk.ts';

export type MethodName = 'average' | 'level' | 'tsb' | 'croston' | 'daily' | 'daily-weekly';

export type Weights = Readonly<Record<string, number>>;

/** Seasons, in buckets. */
export interface Cycles {
  readonly day: number;
  readonly week: number;
}

export interface Method {
  readonly name: MethodName;
  /** The least first part of a series that it can begin from; in buckets. */
  trainingBuckets(cycles: Cycles): number;
  /** The values to try of each weight. */
  readonly grid: Readonly<Record<string, readonly number[]>>;
  /** Begins from the first part of a series, and is then walked along it from its first bucket. */
  begin(training: readonly (number | undefined)[], weights: Weights, cycles: Cycles): Walk;
}

const levels = { level: [0.001, 0.003, 0.01, 0.03, 0.1, 0.3], trend: [0, 0.03, 0.1], carry: [0, 0.15, 0.3, 0.5] };
const rates = [0, 0.01, 0.03, 0.1, 0.2];
/** In hours. */
const blur = [0, 1, 3];

/** For a series that is too short for any other: the average of all there is. */
export const averageMethod: Method = {
  name: 'average',
  trainingBuckets: () => 0,
  grid: {},
  begin: averageOfAll,
};

/** From the simplest to the richest. */
export const methods: readonly Method[] = [
  smoothingMethod('level', levels, () => ({ day: 0, week: 0 })),
  intermittentMethod('tsb', tsb),
  intermittentMethod('croston', croston),
  smoothingMethod('daily', { ...levels, daily: rates, blur }, ({ day }) => ({ day, week: 0 })),
  smoothingMethod(
    'daily-weekly',
    { ...levels, daily: rates, weekly: [0, 0.02, 0.05, 0.1, 0.3], blur },
    (cycles) => cycles,
  ),
];

function smoothingMethod(
  name: MethodName,
  grid: Partial<Record<keyof SmoothingWeights | 'blur', readonly number[]>>,
  seasons: (cycles: Cycles) => Cycles,
): Method {
  return {
    name,
    grid,
    trainingBuckets: (cycles) => Math.max(cycles.day / 2, seasons(cycles).day, seasons(cycles).week),
    begin(training, weights, cycles) {
      const reach = Math.round(((weights['blur'] ?? 0) * cycles.day) / 24);
      const start = smoothingStart(training, { ...seasons(cycles), blur: reach });
      return smoothing({ level: 0, trend: 0, daily: 0, weekly: 0, carry: 0, ...weights }, start);
    },
  };
}

function intermittentMethod(name: MethodName, method: typeof tsb): Method {
  const none: IntermittentWeights = { size: 0, frequency: 0 };
  return {
    name,
    grid: { size: [0.01, 0.05, 0.2], frequency: [0.003, 0.01, 0.03, 0.1, 0.3] },
    trainingBuckets: ({ day }) => day / 2,
    begin: (training, weights) => method({ ...none, ...weights }, intermittentStart(training)),
  };
}

function averageOfAll(): Walk {
  let [sum, known] = [0, 0];
  return {
    expect: () => (known === 0 ? 0 : sum / known),
    see(count) {
      if (count === undefined) return;
      sum += count;
      known += 1;
    },
  };
}
