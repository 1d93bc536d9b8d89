import { randomBytes } from 'node:crypto';

import type { Clock, Millis } from './clock.ts';

/** The only source of randomness. */
export interface Ids {
  /** A new id, `prefix_` and 26 characters (a ULID's layout); ids of one process sort in the order they were made. */
  next(prefix: string): string;
  /** Bytes no one can guess. */
  random(length: number): Buffer;
}

// Crockford's base 32: no i, l, o, u, so that an id survives being read out loud.
const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz';

export function createIds(clock: Clock): Ids {
  let lastAt: Millis = 0;
  let entropy = 0n;
  return {
    next(prefix) {
      // Within a millisecond, or when the clock steps back, counting on keeps the order.
      const at = Math.max(clock.now(), lastAt);
      entropy = at === lastAt ? entropy + 1n : BigInt(`0x${randomBytes(9).toString('hex')}`);
      lastAt = at;
      return `${prefix}_${base32(BigInt(at), 10)}${base32(entropy, 16)}`;
    },
    random: (length) => randomBytes(length),
  };
}

function base32(value: bigint, length: number): string {
  let text = '';
  for (let rest = value; text.length < length; rest >>= 5n) text = (ALPHABET[Number(rest & 31n)] ?? '') + text;
  return text;
}
