import ipaddr from 'ipaddr.js';

import { RackstartError } from '../kernel/errors.ts';

/** An inclusive range of addresses of one family. */
export interface AddressRange {
  readonly family: 4 | 6;
  readonly first: bigint;
  readonly last: bigint;
}

/** Errors: `config.invalid` when an end is no address, the families differ, or the range is empty. */
export function addressRange(first: string, last: string): AddressRange {
  const [from, to] = [parseAddress(first), parseAddress(last)];
  if (from.family !== to.family || from.value > to.value) {
    throw new RackstartError('config.invalid', `${first} to ${last} is no range of addresses.`);
  }
  return { family: from.family, first: from.value, last: to.value };
}

/** The lowest address of the range that is not held; undefined when all are. `held` are canonical. */
export function firstFree({ family, first, last }: AddressRange, held: ReadonlySet<string>): string | undefined {
  for (let candidate = first; candidate <= last; candidate++) {
    const address = formatAddress(family, candidate);
    if (!held.has(address)) return address;
  }
  return undefined;
}

/** As addresses are written in the database. Errors: `config.invalid`. */
export function canonicalAddress(text: string): string {
  const { family, value } = parseAddress(text);
  return formatAddress(family, value);
}

export interface Cidr {
  readonly family: 4 | 6;
  /** Canonical network address and prefix length. */
  readonly text: string;
  readonly prefixLength: number;
  contains(address: string): boolean;
}

/** Errors: `config.invalid` when the text is no network in CIDR form. */
export function parseCidr(text: string): Cidr {
  const [address = '', length = ''] = text.split('/');
  const { family } = parseAddress(address);
  const prefixLength = Number(length);
  if (!/^\d{1,3}$/.test(length) || prefixLength > (family === 4 ? 32 : 128)) {
    throw new RackstartError('config.invalid', `${text} is no network: write ADDRESS/PREFIX-LENGTH.`);
  }
  const host = BigInt((family === 4 ? 32 : 128) - prefixLength);
  const network = (value: bigint) => value >> host;
  const base = network(parseAddress(address).value);
  return {
    family,
    text: `${formatAddress(family, base << host)}/${String(prefixLength)}`,
    prefixLength,
    contains(other) {
      const parsed = parseAddress(other);
      return parsed.family === family && network(parsed.value) === base;
    },
  };
}

/** Errors: `config.invalid`. Only four-part decimal IPv4: `010.1` is not read as 8.0.0.1. */
function parseAddress(text: string): { family: 4 | 6; value: bigint } {
  const family = ipaddr.IPv4.isValidFourPartDecimal(text) ? 4 : ipaddr.IPv6.isValid(text) ? 6 : undefined;
  if (family === undefined || text.includes('%')) {
    throw new RackstartError('config.invalid', `${JSON.stringify(text)} is no IP address.`);
  }
  const bytes = ipaddr.parse(text).toByteArray();
  return { family, value: bytes.reduce((value, byte) => (value << 8n) | BigInt(byte), 0n) };
}

function formatAddress(family: 4 | 6, value: bigint): string {
  // Asked 10,000 times where so many are held.
  if (family === 4) {
    const four = Number(value);
    return `${four >>> 24}.${(four >>> 16) & 255}.${(four >>> 8) & 255}.${four & 255}`;
  }
  const length = 16;
  const bytes = Array.from({ length }, (_, index) => Number((value >> BigInt(8 * (length - 1 - index))) & 255n));
  return ipaddr.fromByteArray(bytes).toString();
}
