import ipaddr from 'ipaddr.js';

import { RackstartError } from '../../kernel/errors.ts';
import type { FieldError } from '../../kernel/errors.ts';
import { canonicalAddress } from '../../network/address-range.ts';

/** How a server is reached that a person has set up. There is no password: the tenant's SSH key is what lets in. */
export interface AccessDetails {
  readonly username: string;
  /** The first is where SSH is tried. */
  readonly addresses: readonly string[];
  /** `ssh-ed25519 AAAA…`; null where nobody looked. */
  readonly hostKey: string | null;
  /** Whether SSH is tried from here; a server that can't be reached from here is taken on a person's word. */
  readonly verify: boolean;
}

/**
 * The same details in their one form, so that entering them twice is the same. Errors: `request.invalid`, a complaint about
 * each field that is wrong.
 */
export function checkedAccess({ username, addresses, hostKey, verify }: AccessDetails): AccessDetails {
  const canonical = addresses.map((address) => (isServerAddress(address) ? canonicalAddress(address) : undefined));
  const fields: FieldError[] = canonical.flatMap((address, index) => {
    const field = `/addresses/${String(index)}`;
    if (address === undefined) return [{ field, message: 'It is no address that a server can be reached at.' }];
    return canonical.indexOf(address) < index ? [{ field, message: 'It is there twice.' }] : [];
  });
  const key = hostKey === null ? undefined : canonicalHostKey(hostKey);
  if (hostKey !== null && key === undefined)
    fields.push({ field: '/hostKey', message: 'It is no Ed25519 public key: write ssh-ed25519 AAAA….' });
  if (verify && hostKey === null)
    fields.push({ field: '/hostKey', message: 'SSH cannot be verified without it; or say that it is not to be.' });
  if (fields.length > 0) {
    throw new RackstartError('request.invalid', 'The access details are not what they must be.', { fields });
  }
  return { username, addresses: canonical.filter((one) => one !== undefined), hostKey: key ?? null, verify };
}

// Not loopback, link-local, multicast or 0.0.0.0: nobody else could reach a server there. ipaddr reads 010.1 as 8.0.0.1.
function isServerAddress(text: string): boolean {
  if (ipaddr.IPv4.isValid(text) && !ipaddr.IPv4.isValidFourPartDecimal(text)) return false;
  if (!ipaddr.isValid(text) || text.includes('%')) return false;
  const range = ipaddr.parse(text).range();
  return ['unicast', 'private', 'uniqueLocal', 'carrierGradeNat', 'reserved'].includes(range);
}

/** RFC 8709 §4: the type and 32 bytes, each behind its length. The comment is left out. */
function canonicalHostKey(text: string): string | undefined {
  const [type, encoded = ''] = text.trim().split(/\s+/);
  const wire = Buffer.from(encoded, 'base64');
  const header = Buffer.from(`\0\0\0\x0bssh-ed25519\0\0\0\x20`, 'latin1');
  const isKey = type === 'ssh-ed25519' && wire.length === header.length + 32 && wire.indexOf(header) === 0;
  return isKey && wire.toString('base64') === encoded ? `ssh-ed25519 ${encoded}` : undefined;
}
