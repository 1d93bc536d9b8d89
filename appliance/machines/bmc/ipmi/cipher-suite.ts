import { createHmac, timingSafeEqual } from 'node:crypto';
import type { KeyObject } from 'node:crypto';

/** The algorithms of one session (IPMI 2.0 §22.15.2, tables 13-17 to 13-19; suite 17 is from errata 7). */
export interface CipherSuite {
  readonly id: 3 | 17;
  /** RAKP-HMAC-SHA1 is 1, RAKP-HMAC-SHA256 is 3. */
  readonly authentication: number;
  /** HMAC-SHA1-96 is 1, HMAC-SHA256-128 is 4. */
  readonly integrity: number;
  /** AES-CBC-128. */
  readonly confidentiality: 1;
  readonly hash: 'sha1' | 'sha256';
  readonly digestBytes: number;
  /** How much of the digest travels with each packet and with RAKP message 4. */
  readonly checkBytes: number;
}

const suites: Readonly<Record<3 | 17, CipherSuite>> = {
  3: { id: 3, authentication: 1, integrity: 1, confidentiality: 1, hash: 'sha1', digestBytes: 20, checkBytes: 12 },
  17: { id: 17, authentication: 3, integrity: 4, confidentiality: 1, hash: 'sha256', digestBytes: 32, checkBytes: 16 },
};

export function cipherSuite(id: 3 | 17): CipherSuite {
  return suites[id];
}

export function hmac(suite: CipherSuite, key: Buffer | KeyObject, ...parts: readonly Buffer[]): Buffer {
  const mac = createHmac(suite.hash, key);
  for (const part of parts) mac.update(part);
  return mac.digest();
}

/** Compares in a time that tells nothing about where two codes differ. */
export function sameCode(ours: Buffer, theirs: Buffer): boolean {
  return ours.length === theirs.length && timingSafeEqual(ours, theirs);
}
