import { execFile } from 'node:child_process';
import { statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { test } from 'tap';

import { until } from '../../lab/process/until.ts';
import { place } from './cli.fixture.ts';

const run = promisify(execFile);

test("a machine's boots are listed, shown and downloaded from the command line", async (t) => {
  const here = place(t);
  const served = await here.serve();
  const ask = async (...args: string[]) => {
    const ended = await served.ask(args);
    t.equal(ended.err, '');
    return ended.out;
  };
  const password = join(here.directory, 'bmc.password');
  writeFileSync(password, 'hunter2-hunter2');
  const subnet = ['--role', 'both', '--reservations', '10.77.0.10-10.77.0.99', '--servers', '10.77.0.100-10.77.0.199'];
  await ask('region', 'add', 'west');
  await ask('rack', 'add', 'r1', '--region', 'west');
  await ask('subnet', 'add', '10.77.0.0/24', '--region', 'west', ...subnet);
  // Nobody answers at its BMC: its inspection opens a boot, and comes no further.
  const bmc = ['--bmc-address', '127.0.0.1', '--bmc-port', '9', '--bmc-user', 'admin', '--bmc-password-file', password];
  await ask('machine', 'add', '--name', 'm1', '--rack', 'r1', ...bmc, '--nic', '52:54:00:77:00:01=both');
  const list = await until('its boot', 15_000, async () => {
    const text = await ask('boot', 'list', 'm1');
    return text.includes('inspect') && text;
  });
  t.match(list, /^BOOT +ORDERED +STATE +OPENED +TIME +SESSION +ENDED BY\n1 +inspect +opened +\S+Z .*boot_\w+/);
  const [session = ''] = /boot_\w+/.exec(list) ?? [];
  t.match(await ask('boot', 'list', 'm1', '--before', '1', '--limit', '5', '--json'), /^\{"boots":\[\]\}\n$/);

  t.match((await served.ask(['boot', 'list'])).err, /Whose boots\?/);
  t.match((await served.ask(['boot', 'list', '--server', 'srv_none'])).err, /not-found/);

  const shown = await ask('boot', 'show', session);
  t.match(shown, new RegExp(`^session +${session}\\nmachine +m1\\nordered +inspect, its boot 1\\n`));
  t.match(shown, /^power +\S+Z/m);
  t.match(JSON.parse(await ask('boot', 'show', session, '--json')), { session, stages: [{ name: 'power' }] });

  t.match(await ask('boot', 'diagnose', session), /^(under-way: This boot is under way|bmc-silent )/);
  t.match((await served.ask(['boot', 'diagnose', 'boot_none'])).err, /not-found/);

  const file = join(here.directory, 'bundle.tar.gz');
  t.match(await ask('boot', 'bundle', session, '--output', file), /bundle\.tar\.gz: 0\.0 MB\n$/);
  t.equal(statSync(file).mode & 0o777, 0o600, "its owner's alone");
  t.match((await run('tar', ['-tzf', file])).stdout, `${session}/packets.pcap\n`);
  const nowhere = await served.ask(['boot', 'bundle', session, '--output', join(here.directory, 'none/b.tar.gz')]);
  t.match(nowhere.err, /can't be written/);
  t.match((await served.ask(['boot', 'bundle', 'boot_none', '--output', file])).err, /not-found/);
  await served.stop();
});
