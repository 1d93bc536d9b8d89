import { hash } from 'node:crypto';

import type { Millis } from './clock.ts';

/**
 * A number in [0, 1) that follows from the seed and the names alone. No state is kept: whatever order things happen in, the
 * same seed gives the same delays and the same faults.
 */
export function draw(seed: string, ...names: readonly (string | number)[]): number {
  const digest = hash('sha256', [seed, ...names].join('\0'), 'buffer');
  return digest.readUIntBE(0, 6) / 2 ** 48;
}

/** A triangular distribution: the least, the most frequent and the greatest value. */
export interface Triangle {
  readonly least: Millis;
  readonly usual: Millis;
  readonly most: Millis;
}

/** The value below which the share `u` of all lie; `u` in [0, 1]. */
export function triangular({ least, usual, most }: Triangle, u: number): Millis {
  if (most === least) return least;
  const below = (usual - least) / (most - least);
  return u < below
    ? least + Math.sqrt(u * (most - least) * (usual - least))
    : most - Math.sqrt((1 - u) * (most - least) * (most - usual));
}
