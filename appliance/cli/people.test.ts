import { join } from 'node:path';
import { test } from 'tap';

import { place, read } from './cli.fixture.ts';

test("a tenant's people and keys are looked after from the command line", async (t) => {
  const here = place(t);
  const served = await here.serve();
  const ok = async (args: readonly string[], keyFile?: string) => {
    const { code, out, err } = await served.ask(args, keyFile);
    t.equal(code, 0, `${args.join(' ')}: ${err}`);
    return out;
  };
  const file = (name: string) => join(here.directory, name);
  await ok(['tenant', 'add', 'acme']);
  await ok(['user', 'add', 'ann', '--role', 'tenant-admin', '--tenant', 'acme', '--email', 'ann@acme.example']);
  await ok(['key', 'issue', 'anns', '--user', 'ann', '--output', file('ann.key')]);

  const ann = file('ann.key');
  await ok(['user', 'add', 'bob', '--role', 'member'], ann);
  t.match(await ok(['user', 'list'], ann), /^NAME .*\nann +tenant-admin .*\nbob +member /);
  t.match(await ok(['user', 'show', 'ann'], ann), /^email +ann@acme\.example$/m);
  const project = (await ok(['project', 'add', 'shop'], ann)).trim();
  t.match(await ok(['project', 'list'], ann), /^NAME .*\ndefault .*\nshop /);
  await ok(['project', 'delete', project], ann);
  t.notMatch(await ok(['project', 'list'], ann), /shop/);

  await ok(['key', 'issue', 'bobs', '--user', 'bob', '--scope', 'users:read', '--output', file('bob.key')], ann);
  t.match((await served.ask(['project', 'list'], file('bob.key'))).err, /auth\.forbidden/, 'its scopes leave that out');
  const { keys } = JSON.parse(await ok(['key', 'list', '--json'], ann)) as { keys: { id: string; name: string }[] };
  const bobs = keys.find(({ name }) => name === 'bobs')?.id ?? '';
  await ok(['key', 'rotate', bobs, '--overlap', '60', '--output', file('bob-2.key')], ann);
  for (const name of ['bob.key', 'bob-2.key']) await ok(['user', 'list'], file(name));
  t.not(read(file('bob.key')), read(file('bob-2.key')));
  await ok(['user', 'disable', 'bob'], ann);
  t.match((await served.ask(['user', 'list'], file('bob-2.key'))).err, /auth\.disabled/);

  const trail = await ok(['audit'], ann);
  t.match(trail, /ann +tenant-admin +api-key\.rotated +key_\w+ +127\.0\.0\.1\n.*user\.disabled/);
  t.match(trail, /key_\w+ +operator +user\.created +usr_\w+ +-\n/, 'which operator it was is not for tenants');
  t.equal((await served.stop()).code, 0);
});
