/**
 * How many orders come, when orders come in batches: negative binomial with variance `dispersion` × `mean`. It is the sum of
 * Poisson many batches of logarithmic size (Quenouille 1949), so it holds for a part of the time as it does for the whole: the
 * mean shrinks, the dispersion stays. A dispersion of 1 is Poisson: orders one by one.
 */
export interface CountDistribution {
  readonly mean: number;
  /** At least 1. */
  readonly dispersion: number;
}

/** The smallest count that is not exceeded with this probability; `level` in (0, 1). Takes as many steps as its answer. */
export function quantile(distribution: CountDistribution, level: number): number {
  requireLevel(level);
  if (distribution.mean <= 0) return 0;
  let below = 0;
  for (const { count, probability } of probabilities(distribution)) {
    below += probability;
    if (below >= level) return count;
  }
  throw new RangeError('a distribution has finite figures');
}

/**
 * The smallest stock from which this share of the orders is served at once, when what is taken is made up for after the time that
 * the distribution is of; `level` in (0, 1). An order is served when those of that time before it, and those before it in its own
 * batch, have left one: a moment at which all is well counts by the orders that come in it. Takes as many steps as the square of
 * its answer.
 */
export function stockServing(distribution: CountDistribution, level: number): number {
  requireLevel(level);
  if (distribution.mean <= 0) return 0;
  /** By stock less one: the probability that no more is wanted of the time before; and by place in the batch, how many are there. */
  const before: number[] = [];
  const places: number[] = [];
  const place = placesInBatch(distribution.dispersion);
  let below = 0;
  for (const { probability } of probabilities(distribution)) {
    below += probability;
    before.push(below);
    places.push(place.next().value);
    const served = places.reduce((sum, share, index) => sum + share * (before[before.length - 1 - index] ?? 0), 0);
    if (served >= level) return before.length;
  }
  throw new RangeError('a distribution has finite figures');
}

/** From `low` to `high` with this probability, and as much above as below. */
export function interval(distribution: CountDistribution, coverage: number): { low: number; high: number } {
  return {
    low: quantile(distribution, (1 - coverage) / 2),
    high: quantile(distribution, (1 + coverage) / 2),
  };
}

function requireLevel(level: number): void {
  if (!(level > 0 && level < 1)) throw new RangeError(`${level} is no probability between 0 and 1`);
}

/** From 0 up, of a mean above 0. The last stands for all behind it: rounding alone would keep the sum below a level near 1. */
function* probabilities({ mean, dispersion }: CountDistribution): Generator<{ count: number; probability: number }> {
  if (!Number.isFinite(mean) || !Number.isFinite(dispersion)) throw new RangeError('a distribution has finite figures');
  // P(0) = dispersion^(-mean/excess), and each next from the one before it; in logarithms, since P(0) may be below what a number holds.
  const excess = dispersion - 1;
  let logarithm = excess < ONE_BY_ONE ? -mean : (-mean * Math.log1p(excess)) / excess;
  for (let count = 0; ; count += 1) {
    const isPastAll = count > mean && Math.exp(logarithm) < 1e-18;
    yield { count, probability: isPastAll ? 1 : Math.exp(logarithm) };
    logarithm += Math.log((count * excess + mean) / (dispersion * (count + 1)));
  }
}

/** Below so much more than 1 a dispersion is that of single orders. */
const ONE_BY_ONE = 1e-9;

/** The share of all orders that are the first, the second … of their batch: batches that are so large, by their mean size. */
function* placesInBatch(dispersion: number): Generator<number, never> {
  const ratio = (dispersion - 1) / dispersion;
  if (ratio < ONE_BY_ONE) {
    yield 1;
    for (;;) yield 0;
  }
  const logarithm = -Math.log1p(-ratio);
  const meanSize = ratio / ((1 - ratio) * logarithm);
  let atLeast = 1;
  let power = ratio;
  for (let size = 1; ; size += 1) {
    yield Math.max(0, atLeast) / meanSize;
    atLeast -= power / (size * logarithm);
    power *= ratio;
  }
}
