import { createHash } from 'node:crypto';
import { appendFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import { test } from 'tap';

import { tinyDisk } from '../../lab/disk/tiny-disk.ts';
import { place } from './cli.fixture.ts';

const delay = { least: 1, usual: 2, most: 5 };
const delays = { create: delay, start: delay, find: delay, delete: delay, probe: delay };
const clusters = ['near', 'far'].map((name) => ({ name, shape: 'openstack', delays }));

test('who orders says who makes the server and where, and is told so', async (t) => {
  const here = place(t);
  // JSON is YAML.
  appendFileSync(here.config, `simulation: ${JSON.stringify({ clusters })}\n`);
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
  const disk = zstdCompressSync(tinyDisk());
  const digest = createHash('sha256').update(disk).digest('hex');
  await ok('region', 'add', 'west');
  await ok('tenant', 'add', 'acme');
  await ok('flavor', 'add', 'small', '--cores', '1', '--memory-mib', '512', '--disk-gib', '3');
  const image = ['image', 'add', file('disk.zst', disk), '--name', 'debian', '--version', '12'];
  await ok(...image, '--sha256', digest, '--root-partition', '1');

  const shape = ['--region', 'west', '--flavor', 'small', '--image', 'debian'];
  const sshKey = ['--ssh-key', file('id.pub', `ssh-ed25519 ${'A'.repeat(68)} me\n`)];
  const create = ['server', 'create', '--hostname', 'web-1', '--tenant', 'acme', ...shape, ...sshKey];
  const sheet = await ok(...create, '--provider', 'simulation', '--cluster', 'far', '--wait');
  t.match(sheet, /^made by +simulation, at far$/m);
  t.match(sheet, /^api +https:\/\/.*far/m, 'the endpoints of its place');
  t.match(sheet, /^log in +ssh /m);
  t.match(await ok(...create, '--provider', 'simulation'), /^made by +simulation, at near$/m, 'the first unless told');
  t.match(await ok(...create), /^made by +bare-metal$/m);

  const nowhere = await served.ask([...create, '--provider', 'simulation', '--cluster', 'moon']);
  t.match(nowhere, { code: 1, err: /\/cluster: Provider simulation has no cluster moon in region west\./ });
  t.match(await served.ask([...create, '--provider', 'nobody']), { code: 1, err: /\/provider: There is no provider/ });
  t.equal((await served.stop()).code, 0);
});
