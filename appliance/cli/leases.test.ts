import { test } from 'tap';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { place } from './cli.fixture.ts';

test('leases, other DHCP servers and switch ports are told, to people and to programs', async (t) => {
  const here = place(t);
  const served = await here.serve();
  const ok = async (...args: string[]) => {
    const { code, out, err } = await served.ask(args);
    t.equal(code, 0, err);
    return out;
  };
  await ok('region', 'add', 'west');
  await ok('rack', 'add', 'r1', '--region', 'west');
  const subnet = ['subnet', 'add', '10.2.0.0/24', '--region', 'west', '--role', 'both'];
  await ok(...subnet, '--servers', '10.2.0.100-10.2.0.199', '--reservations', '10.2.0.9-10.2.0.99');
  const password = join(here.directory, 'password');
  writeFileSync(password, 'secret');
  // Nobody answers at that BMC: the machine is known all the same.
  const bmc = ['--bmc-address', '127.0.0.1', '--bmc-port', '1', '--bmc-user', 'admin', '--bmc-password-file', password];
  for (const [name, mac] of [
    ['m1', '52:54:00:00:00:01'],
    ['m2', '52:54:00:00:00:02'],
  ] as const) {
    const port = name === 'm1' ? '1' : '2';
    await ok('machine', 'add', '--name', name, '--rack', 'r1', ...bmc.with(3, port), '--nic', `${mac}=both`);
  }

  t.match(
    await ok('lease', 'list'),
    /^ADDRESS .*\n10\.2\.0\.9 +reserved +52:54:00:00:00:01 +m1 .*\n10\.2\.0\.10 +reserved +52:54:00:00:00:02 +m2 .*\n$/,
    'in the order of numbers',
  );
  t.match(JSON.parse(await ok('lease', 'list', '--subnet', '10.2.0.0/24', '--json')), {
    leases: [{ subnet: '10.2.0.0/24', address: '10.2.0.9', state: 'reserved', machine: { name: 'm1' } }, {}],
  });
  t.match(await ok('lease', 'foreign-servers'), /^SERVER +MAC .*\n$/);
  t.same(JSON.parse(await ok('lease', 'foreign-servers', '--json')), { servers: [] });
  const unknown = await served.ask(['lease', 'list', '--subnet', '10.3.0.0/24']);
  t.equal(unknown.code, 1);
  t.match(unknown.err, /There is no subnet 10\.3\.0\.0\/24/);

  const nic = ['machine', 'nic', 'm1', '52:54:00:00:00:01'];
  t.match(await ok(...nic, '--switch-port', 'sw-7/eth3'), /52:54:00:00:00:01 .* sw-7\/eth3 /);
  t.match(JSON.parse(await ok(...nic, '--any-switch-port', '--json')), { nics: [{ switchPort: null }] });
  t.match((await served.ask(nic)).err, /Say where it is plugged in/);
  t.equal((await served.stop()).code, 0);
});
