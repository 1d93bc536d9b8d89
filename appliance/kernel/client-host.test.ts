import { test } from 'tap';

import { clientHost } from './client-host.ts';

test('a host is its IPv4 address or its IPv6 network', (t) => {
  t.equal(clientHost('192.0.2.1'), '192.0.2.1');
  t.equal(clientHost('::ffff:192.0.2.1'), '192.0.2.1');
  t.equal(clientHost('2001:db8::1'), clientHost('2001:db8:0:0:ffff::2'));
  t.not(clientHost('2001:db8::1'), clientHost('2001:db8:0:1::1'));
  t.equal(clientHost('fe80::1%eth0'), clientHost('fe80::2'));
  for (const nonsense of ['', 'unknown', 'x'.repeat(10_000), '192.0.2.1, 192.0.2.2']) {
    t.equal(clientHost(nonsense), 'no address');
  }
  t.end();
});
