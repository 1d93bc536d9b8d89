import { randomBytes } from 'node:crypto';

import type { Clock } from './clock.ts';

/** The only source of randomness. */
export interface Ids {
  /** A new id, `prefix_` and 26 characters; ids of one process sort by the time they were made. */
  next(prefix: string): string;
  /** Bytes no one can guess. */
  random(length: number): Buffer;
}

// Crockford's base 32: no i, l, o, u, so that an id survives being read out loud.
const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz';

export function createIds(clock: Clock): Ids {
  return {
    next: (prefix) => `${prefix}_${base32(BigInt(clock.now()), 10)}${base32(entropy(), 16)}`,
    random: (length) => randomBytes(length),
  };
}

function entropy(): bigint {
  return BigInt(`0x${randomBytes(10).toString('hex')}`);
}

function base32(value: bigint, length: number): string {
  let text = '';
  for (let rest = value; text.length < length; rest >>= 5n) text = (ALPHABET[Number(rest & 31n)] ?? '') + text;
  return text;
}
