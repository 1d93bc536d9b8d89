import { statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import { createHash } from 'node:crypto';
import { test } from 'tap';
import type { Test } from 'tap';

import { tinyDisk } from '../../lab/disk/tiny-disk.ts';
import type { Ended, Served } from './cli.fixture.ts';
import { place, read } from './cli.fixture.ts';

test('serve makes the first key, answers commands, and ends in order when it is asked to', async (t) => {
  const here = place(t);
  const served = await here.serve();
  t.equal(statSync(join(here.directory, 'state/operator.key')).mode & 0o777, 0o600, "its owner's alone");
  const key = read(here.directory, 'state/operator.key').trim();

  const second = await here.spawned('serve', '--config', here.config);
  t.equal(second.code, 1);
  t.match(second.err, /error: Another daemon has opened .*rackstart\.db.*\n(.*\n)*.*hint: .*stop it first/);
  t.notMatch(second.err, /^ +at /m, 'no stack trace');

  const region = (await answer(t, served, ['region', 'add', 'west', '--json'])) as { id: string };
  t.match(region.id, /^reg_/);
  t.match(await ok(t, served, ['region', 'list']), /^NAME +ID\nwest +reg_\w+\n$/);
  await ok(t, served, ['rack', 'add', 'r1', '--region', 'west']);
  t.match(await answer(t, served, ['rack', 'list', '--json']), { racks: [{ name: 'r1', region: region.id }] });

  const key2 = join(here.directory, 'member.key');
  await ok(t, served, ['tenant', 'add', 'acme']);
  await ok(t, served, ['key', 'issue', 'shop', '--tenant', 'acme', '--output', key2]);
  t.equal(statSync(key2).mode & 0o777, 0o600);
  const member = await served.ask(['rack', 'list'], key2);
  t.equal(member.code, 1);
  t.match(member.err, /^error: The role member does not have fleet:read\. \(auth\.forbidden\)\n(.*\n)* {2}hint: /);
  const again = await served.ask(['key', 'issue', 'shop', '--output', key2]);
  t.match(again.err, /can't be made/, 'a key never overwrites a file');
  const keys = (await answer(t, served, ['key', 'list', '--json'])) as { keys: { id: string; name: string }[] };
  t.same(
    keys.keys.map(({ name }) => name),
    ['operator', 'shop'],
  );
  await ok(t, served, ['key', 'revoke', keys.keys[1]!.id]);
  t.match((await served.ask(['region', 'list'], key2)).err, /auth\.revoked/);

  const ended = await served.stop();
  t.equal(ended.code, 0);
  t.match(ended.out, /^rackstart: ready, API at http:\/\/127\.0\.0\.1:\d+ \(documentation: \/docs\)\n$/);
  for (const line of ended.err.trim().split('\n')) t.match(JSON.parse(line), { level: Number, msg: String });
  for (const secret of [key, read(key2).trim()]) t.notMatch(ended.err, secret);
});

test('a server is ordered, watched and released from the command line', async (t) => {
  const here = place(t);
  const served = await here.serve();
  const file = (name: string, content: string | Buffer) => {
    writeFileSync(join(here.directory, name), content);
    return join(here.directory, name);
  };
  await ok(t, served, ['region', 'add', 'west']);
  await ok(t, served, ['tenant', 'add', 'acme']);
  await ok(t, served, ['flavor', 'add', 'small', '--cores', '1', '--memory-mib', '512', '--disk-gib', '3']);
  const disk = zstdCompressSync(tinyDisk());
  const digest = createHash('sha256').update(disk).digest('hex');
  const image = ['image', 'add', file('disk.zst', disk), '--name', 'debian', '--version', '12'];
  const wrong = await served.ask([...image, '--sha256', '00'.repeat(32), '--root-partition', '1']);
  t.equal(wrong.code, 1);
  t.match(wrong.err, /image\.digest/);
  t.match(await answer(t, served, [...image, '--sha256', digest, '--root-partition', '1', '--json']), {
    name: 'debian',
    rawBytes: 65_536,
  });
  t.match(await ok(t, served, ['image', 'list']), /^NAME .*\ndebian +12 /);

  const order = [
    'server',
    'create',
    '--hostname',
    'web-1',
    '--region',
    'west',
    '--flavor',
    'small',
    '--tenant',
    'acme',
  ];
  const sshKey = file('id.pub', `# mine\nssh-ed25519 ${'A'.repeat(68)} me\n`);
  const privateKey = await served.ask([...order, '--image', 'debian', '--ssh-key', file('id', '-BEGIN PRIVATE KEY-')]);
  t.match(privateKey.err, /private key/);
  const unknown = await served.ask([...order, '--image', 'windows', '--ssh-key', sshKey]);
  t.equal(unknown.code, 1);
  t.match(unknown.err, /\(request\.invalid\)\n {2}\/image: There is no such image\.\n {2}hint: /);
  t.match(await ok(t, served, ['server', 'list']), /^HOSTNAME .*\n$/, 'none of that was ordered');

  const create = [...order, '--image', 'debian', '--ssh-key', sshKey, '--json'];
  const { id } = (await answer(t, served, create)) as { id: string };
  t.match(await ok(t, served, ['server', 'show', id]), /hostname +web-1\n(.*\n)*tenant +ten_/);
  t.match(
    await ok(t, served, ['server', 'show', id]),
    /^STEP .*\nallocate +(pending|running) .*\n(.*\n)*verify +pending +0/m,
  );
  const dependent = await ok(t, served, [...create.slice(0, -1), '--depends-on', id]);
  t.match(dependent, new RegExp(`^depends on +${id}$`, 'm'));
  const orders = ['db', 'web'].map((name) => {
    const made = { flavor: 'small', image: 'debian', region: 'west', sshKeys: [`ssh-ed25519 ${'A'.repeat(68)} me`] };
    return { name, hostname: name, ...made, dependsOn: name === 'web' ? ['db', id] : [] };
  });
  const batch = ['server', 'batch', file('batch.json', JSON.stringify(orders)), '--tenant', 'acme'];
  t.match(await ok(t, served, batch), /^HOSTNAME .*\ndb +\S+ .*\nweb +pending +queued /);
  t.match(await ok(t, served, ['server', 'timeline', id]), /^STAGE .*\nadmit /);
  const output = join(here.directory, 'timeline.json');
  await ok(t, served, ['server', 'timeline', id, '--output', output]);
  t.match(JSON.parse(read(output)), { stages: [{ name: 'admit' }] });

  // There is no machine: it goes no further than that, and the whole way back.
  const released = await served.ask(['server', 'delete', id, '--wait']);
  t.equal(released.code, 0, released.err);
  t.equal(released.out, `${id} rolled-back\n`);
  t.match(released.err, /web-1: rolled-back\n/);
  t.match(
    (await served.ask(['server', 'show', 'srv_none'])).err,
    /^error: There is no server srv_none\. \(not-found\)/,
  );
  t.equal((await served.stop()).code, 0);
  t.match(await here.spawned('doctor', '--config', here.config), { code: 0, out: /^\d+ invariants hold\n$/ });
});

test('a backup taken while the daemon runs holds everything when it is restored', async (t) => {
  const here = place(t);
  const served = await here.serve();
  await ok(t, served, ['region', 'add', 'west']);
  const target = join(here.directory, 'backup.db');
  const backup = await here.rackstart('backup', '--config', here.config, target);
  t.equal(backup.code, 0, backup.err);
  t.match((await here.rackstart('backup', '--config', here.config, target)).err, /exists already.*\(state\.conflict\)/);
  t.match((await here.rackstart('restore', '--config', here.config, target)).err, /^error: .*\((store\.locked)\)/);
  t.match((await here.rackstart('rotate-master-key', '--config', here.config)).err, /^error: .*\((store\.locked)\)/);
  await served.stop();

  // Another host: the master key travels apart from the database.
  const there = place(t);
  writeFileSync(there.config, `state: state\nmasterKey: ${here.directory}/state/master.key\n${rest(there.config)}`);
  const restored = await there.rackstart('restore', '--config', there.config, target);
  t.equal(restored.code, 0, restored.err);
  const revived = await there.serve();
  const operatorKey = join(here.directory, 'state/operator.key');
  t.match((await revived.ask(['region', 'list'], operatorKey)).out, /west/, 'keys are still keys');
  t.equal((await revived.stop()).code, 0);

  const rotated = await there.rackstart('rotate-master-key', '--config', there.config, '--json');
  t.match(JSON.parse(rotated.out), { sealed: 2 }, 'the keys of API keys and of boot tokens');
  const again = await there.serve();
  t.match((await again.ask(['region', 'list'], operatorKey)).out, /west/, 'under a new master key too');
  t.equal((await again.stop()).code, 0);
});

test('what can not work says what happened, why, and what to do', async (t) => {
  const here = place(t);
  const elsewhere = ['--url', 'http://127.0.0.1:1'];
  t.match(await here.spawned('server', 'list', ...elsewhere), {
    code: 1,
    out: '',
    err: /^error: There is no API key to ask with\.\n {2}hint: .*--key-file/,
  });
  const keyFile = join(here.directory, 'key');
  writeFileSync(keyFile, 'rackstart_0\n');
  t.match(await here.rackstart('server', 'list', ...elsewhere, '--key-file', keyFile), {
    code: 1,
    err: /^error: No appliance answers at http:\/\/127\.0\.0\.1:1\.\n {2}because: .*\n {2}hint: Start one/,
  });
  writeFileSync(here.config, 'state: state\nramdisk: none\napi: { port: http }\nprovisioning: []\ncolour: red\n');
  t.match(await here.spawned('serve', '--config', here.config), {
    code: 1,
    err: /^error: The configuration is wrong: .*\/api\/port.*\(config\.invalid\)\n/,
  });
  t.match(await here.spawned('serve', '--config', join(here.directory, 'none')), {
    code: 1,
    err: /can't be read.*\n {2}because: ENOENT.*\n {2}hint: /,
  });
  t.match(await here.spawned('serve'), { code: 1, err: /--config <file>/ });
  t.match(await here.rackstart('flavor', 'add', 'x', '--cores', 'many'), { code: 1, err: /not a whole number/ });
  t.match(await here.spawned('--help'), { code: 0, out: /serve .*\n(.*\n)*.*server/, err: '' });
});

async function ok(t: Test, served: Served, args: readonly string[]): Promise<string> {
  const ended: Ended = await served.ask(args);
  t.equal(ended.code, 0, `${args.join(' ')}: ${ended.err}`);
  return ended.out;
}

async function answer(t: Test, served: Served, args: readonly string[]): Promise<unknown> {
  return JSON.parse(await ok(t, served, args));
}

function rest(config: string): string {
  return read(config).replace('state: state\n', '');
}
