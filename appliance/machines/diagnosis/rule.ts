import type { TimelineEntry } from '../../../pxe/timeline.ts';
import type { Cause } from './causes.ts';
import type { BootEvidence } from './evidence.ts';
import type { Hop } from './hops.ts';

/** `certain`: some evidence says so itself. `likely`: it is what is left when everything else that is known is taken away. */
export type Certainty = 'certain' | 'likely';

/** What a rule has found. */
export interface Look {
  readonly certainty: Certainty;
  /** What happened, in plain words. */
  readonly sentence: string;
  /** What it stands on: entries of the timeline, or lines of text. */
  readonly stands: readonly (TimelineEntry | string)[];
}

/** One thing that may be wrong at one hop, and how it shows. */
export interface Rule {
  readonly cause: Cause;
  readonly hop: Hop;
  /** It goes on to do harm behind its hop: it is asked also when the boot has come further. */
  readonly lasting?: true;
  /** Asked only when the boot has come to no good, and stands at this hop (or behind it, when lasting). */
  readonly look: (evidence: BootEvidence) => Look | undefined;
}

export function certain(sentence: string, ...stands: Look['stands']): Look {
  return { certainty: 'certain', sentence, stands };
}

export function likely(sentence: string, ...stands: Look['stands']): Look {
  return { certainty: 'likely', sentence, stands };
}
