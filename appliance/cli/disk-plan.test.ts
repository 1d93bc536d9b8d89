import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { test } from 'tap';

import { tinyDisk } from '../../lab/disk/tiny-disk.ts';
import { place } from './cli.fixture.ts';

test('a flavor takes its layout from a file, and a dry run tells why a machine is no such server', async (t) => {
  const here = place(t);
  const served = await here.serve();
  const ok = async (...args: string[]) => {
    const { code, out, err } = await served.ask(args);
    t.equal(code, 0, err);
    return out;
  };
  const file = (name: string, content: string | Buffer) => {
    writeFileSync(join(here.directory, name), content);
    return join(here.directory, name);
  };
  await ok('region', 'add', 'west');
  await ok('rack', 'add', 'r1', '--region', 'west');
  const ranges = ['--servers', '10.1.0.100-10.1.0.199', '--reservations', '10.1.0.10-10.1.0.99'];
  await ok('subnet', 'add', '10.1.0.0/24', '--region', 'west', '--role', 'both', ...ranges);
  const bmc = ['--bmc-address', '127.0.0.1', '--bmc-user', 'admin', '--bmc-password-file', file('password', 'x')];
  await ok('machine', 'add', '--name', 'm1', '--rack', 'r1', ...bmc, '--nic', '52:54:00:00:00:0a=both');

  const shape = ['--cores', '1', '--memory-mib', '512', '--disk-gib', '3'];
  const layout = 'swapMib: 1024\ndata:\n  - { fs: xfs, label: data, mount: /srv/data, disk: { type: hdd } }\n';
  await ok('flavor', 'add', 'storage', ...shape, '--layout', file('layout.yaml', layout));
  const text = await ok('machine', 'disk-plan', 'm1', '--flavor', 'storage');
  t.match(
    text,
    /^m1 can't be a storage:\nDISK FOR +REASON +WHY\nroot +no-disk +It must have .*\ndata1 +no-disk +.*hdd.*\n$/,
  );
  const plan = JSON.parse(await ok('machine', 'disk-plan', 'm1', '--flavor', 'storage', '--json')) as object;
  t.match(plan, { possible: false, refusals: [{ role: 'root' }, { role: 'data1' }] });

  await ok('flavor', 'add', 'mirrored', ...shape, '--layout', file('mirrored.yaml', 'root: { mirror: {} }\n'));
  const image = ['--name', 'tiny', '--version', '1', '--kernel-args', 'root=/dev/sda1'];
  await ok('image', 'upload', file('tiny.raw', tinyDisk()), ...image);
  const withImage = await ok('machine', 'disk-plan', 'm1', '--flavor', 'mirrored', '--image', 'tiny');
  t.match(withImage, /\nmirror +image +The image's kernel arguments name a root of their own/);
  await ok('tenant', 'add', 'acme');
  const key = join(here.directory, 'acme.key');
  await ok('key', 'issue', 'ci', '--tenant', 'acme', '--output', key);
  const sshKey = file('id.pub', `ssh-ed25519 ${'A'.repeat(68)} me`);
  const order = (flavor: string) => {
    const names = ['--hostname', 'web-1', '--region', 'west', '--flavor', flavor, '--image', 'tiny:1'];
    return served.ask(['server', 'create', ...names, '--ssh-key', sshKey], key);
  };
  t.match(await order('mirrored'), { code: 1, err: /\/image: The image's kernel arguments name a root of their own/ });
  t.match(await order('storage'), { code: 0 }, 'with one disk it is ordered');

  const broken = await served.ask(['flavor', 'add', 'no', ...shape, '--layout', file('broken.yaml', '{ data: [')]);
  t.match(broken, { code: 1, err: /neither YAML nor JSON/ });
  t.equal((await served.stop()).code, 0);
});
