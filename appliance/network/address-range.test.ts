import { test } from 'tap';

import { addressRange, firstFree, parseCidr } from './address-range.ts';

test('the lowest free address is given', async (t) => {
  const range = addressRange('10.0.0.10', '10.0.0.12');
  t.equal(firstFree(range, new Set([])), '10.0.0.10');
  t.equal(firstFree(range, new Set(['10.0.0.10', '10.0.0.12'])), '10.0.0.11');
  t.equal(firstFree(range, new Set(['10.0.0.12', '10.0.0.11', '10.0.0.10'])), undefined);
});

test('addresses outside the range do not count', async (t) => {
  t.equal(firstFree(addressRange('10.0.0.10', '10.0.0.12'), new Set(['10.0.0.9', '10.0.0.200'])), '10.0.0.10');
});

test('a range of IPv6 addresses is as good, however large', async (t) => {
  const range = addressRange('2001:db8::10', '2001:db8:0:0:ffff:ffff:ffff:ffff');
  t.equal(firstFree(range, new Set(['2001:db8::10'])), '2001:db8::11');
});

test('what is no range of addresses is refused', async (t) => {
  t.throws(() => addressRange('10.0.0.12', '10.0.0.10'), { code: 'config.invalid' });
  t.throws(() => addressRange('10.0.0.1', '2001:db8::1'), { code: 'config.invalid' });
  t.throws(() => addressRange('010.1', '10.0.0.1'), { code: 'config.invalid' });
  t.throws(() => parseCidr('10.0.0.0/33'), { code: 'config.invalid' });
  t.throws(() => parseCidr('10.0.0.0'), { code: 'config.invalid' });
});

test('a network knows its own addresses', async (t) => {
  const network = parseCidr('10.77.0.5/24');
  t.equal(network.text, '10.77.0.0/24');
  t.ok(network.contains('10.77.0.255'));
  t.notOk(network.contains('10.77.1.0'));
  t.notOk(network.contains('2001:db8::1'));
});
