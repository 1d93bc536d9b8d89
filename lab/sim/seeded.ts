import { hash } from 'node:crypto';

/**
 * A number in [0, 1) that follows from the seed and the names alone. No state is kept: whatever order machines act in, the same
 * seed gives the same fleet, the same delays and the same faults.
 */
export function draw(seed: string, ...names: readonly (string | number)[]): number {
  const digest = hash('sha256', [seed, ...names].join('\0'), 'buffer');
  return digest.readUIntBE(0, 6) / 2 ** 48;
}
