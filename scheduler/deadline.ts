import { nearestRank } from './nearest-rank.ts';

/** How one boot fared in a stage. */
export interface StageSample {
  /** What the stage took; of one that was late, how long nothing came before it was given up. */
  readonly milliseconds: number;
  readonly late: boolean;
}

/** All in milliseconds, but for the factor. */
export interface DeadlineRules {
  /** What is allowed as long as little is known. */
  readonly cold: number;
  readonly floor: number;
  readonly ceiling: number;
  /** How many times what 99 in 100 boots take at most. */
  readonly factor: number;
}

/** How long a stage may take, and why that long. */
export interface Deadline {
  readonly milliseconds: number;
  /** How many boots were measured, and what 99 in 100 of them took at most; undefined without any. */
  readonly samples: number;
  readonly p99: number | undefined;
  /**
   * `measured`: by what was measured; `floor` or `ceiling`: that would have been less, or more; `cold`: too little is known;
   * `doubted`: the last boots were all late, so that what was measured may not hold any more.
   */
  readonly basis: 'measured' | 'floor' | 'ceiling' | 'cold' | 'doubted';
}

/**
 * From what a stage took on machines of one model, the newest first, how long it may take on the next. One that is too tight kills
 * machines that work, one that is too wide costs minutes: so few samples widen it, since the most of ten is not what 99 in 100 take.
 * After a change of firmware a stage may take longer than it ever did: were those that are late not heard, no boot would ever be
 * measured again. So when the last two were late, the next one has all the time there is.
 */
export function deadline(samples: readonly StageSample[], { cold, floor, ceiling, factor }: DeadlineRules): Deadline {
  const took = samples
    .filter(({ late }) => !late)
    .map(({ milliseconds }) => milliseconds)
    .sort((a, b) => a - b);
  const p99 = took.length === 0 ? undefined : nearestRank(took, 0.99);
  const known = { samples: took.length, p99 };
  const newest = samples.slice(0, DOUBTED);
  if (newest.length === DOUBTED && newest.every(({ late }) => late)) {
    return { ...known, milliseconds: ceiling, basis: 'doubted' };
  }
  if (p99 === undefined || took.length < MEASURED) {
    // The slowest of a few is the least that must be allowed.
    const allowed = Math.max(cold, (p99 ?? 0) * factor);
    return { ...known, milliseconds: Math.min(ceiling, Math.max(floor, allowed)), basis: 'cold' };
  }
  const allowed = Math.round(p99 * factor * (1 + WIDENING / took.length));
  if (allowed > ceiling) return { ...known, milliseconds: ceiling, basis: 'ceiling' };
  if (allowed < floor) return { ...known, milliseconds: floor, basis: 'floor' };
  return { ...known, milliseconds: allowed, basis: 'measured' };
}

/** Fewer are an anecdote. */
const MEASURED = 5;
/** So many late ones in a row, and nothing is sure. */
const DOUBTED = 2;
// Three times as long with five samples, twice with ten, a tenth more with a hundred.
const WIDENING = 10;
