import { test } from 'tap';

import type { RackstartError } from '../../kernel/errors.ts';
import type { AccessDetails } from './access-details.ts';
import { checkedAccess } from './access-details.ts';

const hostKey = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJu0yI2Zb3bR3cLzqmAqUnnzNsVIV1sbHGf2HIfEvZ4a';
const details: AccessDetails = { username: 'root', addresses: ['198.51.100.7'], hostKey, verify: true };

test('details have one form, however they are written', (t) => {
  const written = {
    addresses: ['198.51.100.7', '2001:DB8:0:0::0007'],
    hostKey: `  ${hostKey}  root@somewhere `,
  };
  t.same(checkedAccess({ ...details, ...written }), { ...details, addresses: ['198.51.100.7', '2001:db8::7'] });
  t.same(checkedAccess({ ...details, hostKey: null, verify: false }).hostKey, null);
  t.end();
});

test('an address that nobody else could reach the server at is refused, each by its place', (t) => {
  const wrong = ['127.0.0.1', '::1', '0.0.0.0', '169.254.1.1', 'fe80::1', '224.0.0.1', 'ff02::1', '255.255.255.255'];
  const unreadable = ['010.1', '10.1', '0x0a000001', 'web1', '198.51.100.7/24', 'fd00::1%eth0', '::ffff:10.0.0.1', ''];
  for (const address of [...wrong, ...unreadable])
    t.same(complaints({ addresses: ['198.51.100.7', address] }), ['/addresses/1'], address);
  t.same(complaints({ addresses: ['2001:db8::1', '2001:DB8::0:1'] }), ['/addresses/1'], 'twice');
  t.end();
});

test('a host key is an Ed25519 public key, and verification needs one', (t) => {
  const [, encoded = ''] = hostKey.split(' ');
  const other = Buffer.from(encoded, 'base64');
  other[18] = 0x21;
  for (const wrong of [
    '',
    'ssh-ed25519',
    encoded,
    `ssh-rsa ${encoded}`,
    `ssh-ed25519 ${encoded.slice(0, -4)}`,
    `ssh-ed25519 ${encoded}AAAA`,
    `ssh-ed25519 ${encoded.slice(0, 8)}!${encoded.slice(9)}`,
    `ssh-ed25519 ${other.toString('base64')}`,
  ])
    t.same(complaints({ hostKey: wrong, verify: false }), ['/hostKey'], wrong);
  t.same(complaints({ hostKey: null }), ['/hostKey']);
  t.end();
});

function complaints(change: Partial<AccessDetails>): string[] {
  try {
    checkedAccess({ ...details, ...change });
    return [];
  } catch (error) {
    return (error as RackstartError).fields.map(({ field }) => field);
  }
}
