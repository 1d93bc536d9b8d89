import { nearestRank } from './nearest-rank.ts';

/** How long a machine is taken to need from power-on to ready, and why that long. */
export interface WarmUp {
  readonly milliseconds: number;
  /** How many warm-ups were measured. */
  readonly samples: number;
  /** `measured`: nine in ten took no longer; `configured`: too few were measured; `least` or `most`: it would have been less, or more. */
  readonly basis: 'measured' | 'configured' | 'least' | 'most';
}

/**
 * The slow end of what warm-ups took, in ms: an order finds no machine that is not up yet. The few of a new pool are an anecdote:
 * until there are more, what people have said stands, or the slowest of the few.
 */
export function warmUp(took: readonly number[], configured: number): WarmUp {
  const samples = took.length;
  if (samples < MEASURED) return { milliseconds: Math.max(configured, ...took), samples, basis: 'configured' };
  const p90 = nearestRank(
    [...took].sort((a, b) => a - b),
    0.9,
  );
  if (p90 < LEAST) return { milliseconds: LEAST, samples, basis: 'least' };
  if (p90 > MOST) return { milliseconds: MOST, samples, basis: 'most' };
  return { milliseconds: p90, samples, basis: 'measured' };
}

const MEASURED = 5;
// No server is through its self-test sooner; and what takes longer than an hour is broken, not slow.
const LEAST = 60_000;
const MOST = 60 * 60_000;
