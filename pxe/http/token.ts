import { createHmac, timingSafeEqual } from 'node:crypto';
import type { KeyObject } from 'node:crypto';

import { RackstartError } from '../../appliance/kernel/errors.ts';
import { Secret } from '../../appliance/kernel/secret.ts';

/** What a token buys: the iPXE script, one claim, everything after the claim, and what the installed server says. */
export type Hop = 'script' | 'claim' | 'bearer' | 'agent';

/** Whom a token is for. Boot session and generation make it one of one boot. */
export interface TokenSubject {
  /** A boot session's id; for `agent` the attempt's. */
  readonly id: string;
  readonly generation: number;
  /** Binds a bearer to the boot that claimed: another nonce is another bearer. */
  readonly nonce?: string;
}

/**
 * The token of one hop: HMAC-SHA256 under the appliance's key (256 bit, base64url). It is derived, so that a
 * retransmission gets the same one and nothing needs to be stored. A bearer and an agent's credential come without
 * anything that says whose they are, so they name it themselves: `<id>.<mac>`; see `tokenId`. The key is a `KeyObject`: from
 * bytes Node would make one for every token, which takes six times as long as the HMAC.
 *
 * Error: `config.invalid` for a key below 32 bytes or an id that no token can name.
 */
export function deriveToken(key: KeyObject, hop: Hop, subject: TokenSubject): Secret {
  const mac = digest(key, hop, subject).toString('base64url');
  return new Secret(namesItself(hop) ? `${subject.id}.${mac}` : mac);
}

/** Whether `presented` is that token, in a time that doesn't depend on where they differ. */
export function isToken(presented: Secret, key: KeyObject, hop: Hop, subject: TokenSubject): boolean {
  const expected = deriveToken(key, hop, subject);
  return timingSafeEqual(blinded(key, expected.reveal()), blinded(key, presented.reveal()));
}

/** The id that a bearer or an agent's credential names; a claim until `isToken` has said so. Undefined without one. */
export function tokenId(presented: Secret): string | undefined {
  return /^(?<id>[A-Za-z0-9_-]{1,64})\.[A-Za-z0-9_-]{43}$/.exec(presented.reveal())?.groups?.['id'];
}

const namesItself = (hop: Hop) => hop === 'bearer' || hop === 'agent';

function digest(key: KeyObject, hop: Hop, { id, generation, nonce = '' }: TokenSubject): Buffer {
  // A part may not hold the separator, or two subjects could read the same.
  if (
    (key.symmetricKeySize ?? 0) < 32 ||
    !/^[A-Za-z0-9_-]{1,64}$/.test(id) ||
    !Number.isSafeInteger(generation) ||
    nonce.includes('\0')
  ) {
    throw new RackstartError('config.invalid', 'A boot token needs a key of 32 bytes, an id and a generation.');
  }
  return createHmac('sha256', key).update(`rackstart\0${hop}\0${id}\0${generation}\0${nonce}`).digest();
}

// Equal lengths for timingSafeEqual, and no way to learn the length of what is expected.
function blinded(key: KeyObject, text: string): Buffer {
  return createHmac('sha256', key).update('compare\0').update(text).digest();
}
