import { test } from 'tap';

import { ipv4ToNumber, numberToIpv4 } from './ipv4.ts';

test('an address is a number and back', async (t) => {
  for (const text of ['0.0.0.0', '10.0.200.1', '127.255.255.255', '128.0.0.0', '255.255.255.255']) {
    t.equal(numberToIpv4(ipv4ToNumber(text)), text);
  }
  t.equal(ipv4ToNumber('255.255.255.255'), 2 ** 32 - 1);
});

test('what is not four decimal parts is no address', async (t) => {
  const broken = [
    '',
    '1',
    '10.1',
    '1.2.3',
    '1.2.3.',
    '.1.2.3',
    '1..2.3',
    '1.2.3.4.',
    '1.2.3.4.5',
    '010.1.1.1',
    '1.2.3.04',
  ];
  const strange = [
    '00.0.0.0',
    '256.1.1.1',
    '1.2.3.256',
    ' 1.2.3.4',
    '1.2.3.4\n',
    '1.2.3.-4',
    '1e1.2.3.4',
    '0x1.2.3.4',
    '::1',
  ];
  for (const text of [...broken, ...strange]) t.throws(() => ipv4ToNumber(text), { code: 'config.invalid' }, text);
});
