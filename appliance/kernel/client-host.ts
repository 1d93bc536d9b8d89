import ipaddr from 'ipaddr.js';

/**
 * What limits count as one host: an IPv4 address, mapped into IPv6 or not, or the /64 that a single IPv6 host may take
 * any address of (RFC 4291 §2.5.1). Whatever is no address is one host together.
 */
export function clientHost(address: string): string {
  if (!ipaddr.isValid(address)) return 'no address';
  const known = ipaddr.process(address);
  return known.kind() === 'ipv4' ? known.toString() : known.toByteArray().slice(0, 8).join('.');
}
