import { test } from 'tap';

import { addressList, isPublicAddress } from './public-address.ts';

const none = addressList([]);

void test('no address that leads into the house is public, however it is written', (t) => {
  const inside = [
    ...['0.0.0.0', '10.1.2.3', '100.64.0.1', '100.127.255.255', '127.0.0.1', '127.255.255.255', '169.254.169.254'],
    ...['172.16.0.1', '172.31.255.255', '192.0.0.8', '192.0.2.1', '192.168.1.1', '198.18.0.1', '198.19.255.255'],
    ...['198.51.100.1', '203.0.113.9', '224.0.0.1', '239.1.1.1', '240.0.0.1', '255.255.255.255'],
    ...[
      '::',
      '::1',
      '::ffff:127.0.0.1',
      '::ffff:8.8.8.8',
      '::ffff:a00:1',
      '::8.8.8.8',
      '64:ff9b::7f00:1',
      '64:ff9b:1::1',
    ],
    ...['100::1', 'fc00::1', 'fd12:3456::1', 'fe80::1', 'fe80::1%eth0', 'fec0::1', 'ff02::1', '2001::1', '2001:db8::1'],
    ...['2001:10::1', '2002:7f00:1::1', '3fff::1', '5f00::1'],
    ...[
      '',
      'localhost',
      '127.1',
      '0x7f000001',
      '017700000001',
      '2130706433',
      '1.2.3',
      '1.2.3.4.5',
      '8.8.8.8 ',
      '[::1]',
    ],
  ];
  for (const address of inside) t.notOk(isPublicAddress(address, none), address);
  t.end();
});

void test('addresses of the internet are public, up to the borders of the others', (t) => {
  const outside = [
    ...['1.1.1.1', '9.255.255.255', '11.0.0.0', '100.63.255.255', '100.128.0.0', '128.0.0.1', '169.253.255.255'],
    ...[
      '172.15.255.255',
      '172.32.0.0',
      '192.167.255.255',
      '192.169.0.0',
      '198.17.255.255',
      '198.20.0.0',
      '223.255.255.255',
    ],
    ...['2606:4700::1111', '2a00::1', '2001:200::1', '2001:db7::1', '2003::1'],
  ];
  for (const address of outside) t.ok(isPublicAddress(address, none), address);
  t.end();
});

void test('an operator may list networks of the house, and no more than those are let through', (t) => {
  const allowed = addressList(['10.1.0.0/16', 'fd00:1::/32']);
  t.ok(isPublicAddress('10.1.255.1', allowed));
  t.ok(isPublicAddress('fd00:1::5', allowed));
  for (const address of ['10.2.0.1', 'fd00:2::5', '127.0.0.1']) t.notOk(isPublicAddress(address, allowed), address);
  for (const wrong of ['10.1.0.0', '10.1.0.0/33', 'host/8', '']) t.throws(() => addressList([wrong]), wrong);
  t.end();
});
