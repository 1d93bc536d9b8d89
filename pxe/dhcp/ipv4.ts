import ipaddr from 'ipaddr.js';

import { RackstartError } from '../../appliance/kernel/errors.ts';

/** An IPv4 address as an unsigned 32-bit number. Errors: `config.invalid`; only four decimal parts, `010.1` is no address. */
export function ipv4ToNumber(text: string): number {
  if (!ipaddr.IPv4.isValidFourPartDecimal(text)) {
    throw new RackstartError('config.invalid', `${JSON.stringify(text)} is not an IPv4 address`);
  }
  return text.split('.').reduce((value, part) => value * 256 + Number(part), 0);
}

export function numberToIpv4(value: number): string {
  return `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`;
}

/** `24` → `255.255.255.0`, as a number. */
export function netmask(prefixLength: number): number {
  return prefixLength === 0 ? 0 : (-1 << (32 - prefixLength)) >>> 0;
}

export function inSameNetwork(one: string, other: string, prefixLength: number): boolean {
  return ((ipv4ToNumber(one) ^ ipv4ToNumber(other)) & netmask(prefixLength)) === 0;
}
