import { average } from './demand-series.ts';
import type { Walk } from './walk.ts';

/** How much of an error each part of the forecast takes up; each from 0 (never learns) to 1 (believes the last bucket alone). */
export interface SmoothingWeights {
  readonly level: number;
  /** Of what the level has taken up. */
  readonly trend: number;
  readonly daily: number;
  readonly weekly: number;
  /** The share of an error that the next bucket is expected to have, too: the autoregression of Taylor's method. */
  readonly carry: number;
}

/** What is left of the trend from one bucket to the next: in hours, half of it is gone after a day and a half. */
const damping = 0.98;

export interface SmoothingStart {
  readonly level: number;
  readonly trend: number;
  /** What a bucket has more than the level, by its place in the day and in the week; empty without that season. */
  readonly daily: readonly number[];
  readonly weekly: readonly number[];
}

/**
 * Exponential smoothing with level, damped trend and two additive seasons: Taylor, "Triple seasonal methods for short-term
 * electricity demand forecasting", EJOR 204 (2010), section 3.2, in error-correction form, with the damped trend of Gardner and
 * McKenzie (1985):
 *
 *     e = y − (l + δb + d + w);  l' = l + δb + αe;  b' = δb + αβe;  d' = d + γe;  w' = w + ωe
 *     expected, h ahead: l + (δ + … + δ^h) b + d + w + φ^h e
 *
 * Additive: hours without an order divide by nothing, and counts that are k times as many give a forecast k times as high.
 */
export function smoothing(weights: SmoothingWeights, start: SmoothingStart): Walk {
  let { level, trend } = start;
  const [daily, weekly] = [[...start.daily], [...start.weekly]];
  let error = 0;
  let at = 0;

  const seasons = (bucket: number) => (daily[bucket % daily.length] ?? 0) + (weekly[bucket % weekly.length] ?? 0);
  const learn = (season: number[], weight: number) => {
    if (season.length > 0) season[at % season.length] = (season[at % season.length] ?? 0) + weight * error;
  };

  return {
    expect(ahead) {
      const steps = (damping * (1 - damping ** ahead)) / (1 - damping);
      return level + steps * trend + seasons(at + ahead - 1) + weights.carry ** ahead * error;
    },
    see(count) {
      const before = level + damping * trend + seasons(at);
      error = count === undefined ? weights.carry * error : count - before;
      const surprise = count === undefined ? 0 : error;
      level += damping * trend + weights.level * surprise;
      trend = damping * trend + weights.level * weights.trend * surprise;
      if (count !== undefined) {
        learn(daily, weights.daily);
        learn(weekly, weights.weekly);
      }
      at += 1;
    },
  };
}

/**
 * Where to begin, from the first counts of the series: the level is their average; the daily season what each time of day has
 * more; the weekly season makes the day's shape as much higher or lower as the whole weekday is, since single hours of a few
 * weeks say little. `day` and `week` are in buckets, 0 for a season to leave out; the shape of the day is averaged over so many
 * buckets before and behind each as `blur` says, the nearer weighing more: few orders, or orders in clusters, have no sharp shape.
 */
export function smoothingStart(
  counts: readonly (number | undefined)[],
  { day, week, blur }: { readonly day: number; readonly week: number; readonly blur: number },
): SmoothingStart {
  const level = average(counts);
  const averages = (length: number, place: (bucket: number) => number) => {
    const groups = Array.from({ length }, (): (number | undefined)[] => []);
    for (const [bucket, count] of counts.entries()) groups[place(bucket)]?.push(count);
    return groups.map((group) => (group.some((count) => count !== undefined) ? average(group) : level));
  };
  const byTime = blurred(
    averages(day, (bucket) => bucket % day),
    blur,
  );
  const byWeekday = averages(week / (day || 1), (bucket) => Math.floor((bucket % week) / day));
  return {
    level,
    trend: 0,
    daily: byTime.map((mean) => mean - level),
    weekly: Array.from({ length: week }, (_, bucket) => {
      const strength = level === 0 ? 1 : (byWeekday[Math.floor(bucket / day)] ?? level) / level;
      return (byTime[bucket % day] ?? level) * (strength - 1);
    }),
  };
}

/** In a circle: the day's end is beside its beginning. */
function blurred(values: readonly number[], reach: number): number[] {
  return values.map((_, at) => {
    let sum = 0;
    for (let by = -reach; by <= reach; by += 1)
      sum += (reach + 1 - Math.abs(by)) * (values.at((at + by) % values.length) ?? 0);
    return sum / (reach + 1) ** 2;
  });
}
