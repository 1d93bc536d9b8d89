import { BlockList, isIP } from 'node:net';

/**
 * Whether an address is one that anybody on the internet may be sent to: none of the special ones of IANA's registries
 * (RFC 6890 and what followed): private, loopback, link-local, shared, documentation, multicast, mapped and translated ones.
 * `allowed`: CIDRs that an operator has listed by hand.
 */
export function isPublicAddress(address: string, allowed: BlockList): boolean {
  const family = isIP(address);
  // A zone (`fe80::1%eth0`) names a device of ours: no answer of a name server has one.
  if (family === 0 || address.includes('%')) return false;
  if (family === 4) return allowed.check(address, 'ipv4') || !special.check(address, 'ipv4');
  return allowed.check(address, 'ipv6') || (global6.check(address, 'ipv6') && !special.check(address, 'ipv6'));
}

/** Throws a TypeError or RangeError for what is no CIDR. */
export function addressList(cidrs: readonly string[]): BlockList {
  const list = new BlockList();
  for (const cidr of cidrs) {
    // Without a length nothing is meant; 0 would be everything.
    const [, network = '', length = ''] = /^([0-9A-Fa-f:.]+)\/(\d{1,3})$/.exec(cidr) ?? [];
    list.addSubnet(network, Number(length), isIP(network) === 6 ? 'ipv6' : 'ipv4');
  }
  return list;
}

// What is assigned to the internet at all; the rest of IPv6 (loopback, mapped, unique local, link-local, multicast) is not in it.
const global6 = addressList(['2000::/3']);
const special = addressList([
  ...['0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.0.0.0/24'],
  ...['192.0.2.0/24', '192.88.99.0/24', '192.168.0.0/16', '198.18.0.0/15', '198.51.100.0/24', '203.0.113.0/24'],
  ...['224.0.0.0/4', '240.0.0.0/4'],
  // Teredo, ORCHID and others (RFC 2928); documentation; 6to4, which holds an IPv4 address; documentation again (RFC 9637).
  ...['2001::/23', '2001:db8::/32', '2002::/16', '3fff::/20'],
]);
