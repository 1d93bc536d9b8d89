import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { buffer } from 'node:stream/consumers';

import { test } from 'tap';
import { pack } from 'tar-stream';

import { fakeRamdisk } from './deploy.fixture.ts';

test('a server gets its files as they are meant, a machine-id and one host key of its own', async (t) => {
  const tar = pack();
  tar.entry({ name: 'root/.ssh/', type: 'directory', mode: 0o700, uid: 1234 });
  tar.entry({ name: 'root/.ssh/authorized_keys', mode: 0o600, uid: 1234 }, 'ssh-ed25519 AAAA tenant\n');
  tar.entry({ name: 'etc/rackstart/agent.header', mode: 0o600 }, 'Authorization: Bearer x\n');
  tar.entry({ name: 'etc/systemd/system/w/a.service', type: 'symlink', linkname: '../a.service' });
  tar.finalize();

  const ramdisk = fakeRamdisk(t);
  writeFileSync(ramdisk.path('run/tar'), await buffer(tar));
  ramdisk.put('mnt/etc/ssh/ssh_host_rsa_key', 'known to everybody who has the image');
  ramdisk.put('mnt/etc/machine-id', '');
  await ramdisk.shell(INJECT);

  const mode = (file: string) => (statSync(ramdisk.path(`mnt/${file}`)).mode & 0o777).toString(8);
  t.equal(mode('root/.ssh'), '700');
  t.equal(mode('root/.ssh/authorized_keys'), '600');
  t.equal(mode('etc/rackstart'), '755', 'a directory that nobody mentioned is an ordinary one');
  t.equal(mode('etc/rackstart/agent.header'), '600');
  t.equal(readlinkSync(ramdisk.path('mnt/etc/systemd/system/w/a.service')), '../a.service');
  t.equal(statSync(ramdisk.path('mnt/root/.ssh')).uid, process.getuid?.(), "the tar's owners are not taken over");

  t.equal(ramdisk.read('mnt/etc/machine-id'), '0b6a2a0e6d7e4b479d103d8d6f4a8c11\n');
  t.notOk(existsSync(ramdisk.path('mnt/etc/ssh/ssh_host_rsa_key')));
  t.equal(mode('etc/ssh/ssh_host_ed25519_key'), '600');
  t.equal(mode('etc/ssh/ssh_host_ed25519_key.pub'), '644');
  const key = ramdisk.read('mnt/etc/ssh/ssh_host_ed25519_key.pub').trim();
  t.equal(ramdisk.read('run/facts'), `host_key=${key}\nmachine_id=0b6a2a0e6d7e4b479d103d8d6f4a8c11\n`);
});

test('links of an image lead none of its files out of it', async (t) => {
  const tar = pack();
  tar.entry({ name: 'root/.ssh/', type: 'directory', mode: 0o700 });
  tar.entry({ name: 'root/.ssh/authorized_keys' }, 'ssh-ed25519 AAAA tenant\n');
  tar.entry({ name: 'etc/hostname' }, 'web-1\n');
  tar.entry({ name: 'etc/cloud/cloud.cfg.d/99.cfg' }, 'a: b\n');
  tar.entry({ name: 'etc/systemd/system/w/a.service', type: 'symlink', linkname: '../a.service' });
  tar.finalize();
  const files = await buffer(tar);

  for (const [link, to] of [
    ['etc', '/outside'],
    ['etc/cloud', '../../outside'],
    ['etc/cloud/cloud.cfg.d', '/outside'],
    ['etc/systemd/system/w', '../system'],
    ['etc/ssh', '/outside'],
    ['root', '/outside'],
    ['root/.ssh', '/outside'],
  ] as const) {
    const ramdisk = fakeRamdisk(t);
    writeFileSync(ramdisk.path('run/tar'), files);
    const outside = ramdisk.path('outside');
    mkdirSync(outside);
    const at = ramdisk.path(`mnt/${link}`);
    mkdirSync(dirname(at), { recursive: true });
    symlinkSync(to.startsWith('/') ? ramdisk.path(to.slice(1)) : to, at);
    const told = `FAIL image.invalid the image has something else than a directory at /${link}\n`;
    await t.rejects(ramdisk.shell(INJECT), { message: told }, link);
    t.same(readdirSync(outside), [], 'nothing was written through it');
    t.ok(readlinkSync(at).endsWith(to), 'the link is as it was');
  }

  const ramdisk = fakeRamdisk(t);
  writeFileSync(ramdisk.path('run/tar'), files);
  ramdisk.put('passwd', 'of the ramdisk\n');
  mkdirSync(ramdisk.path('mnt/etc'));
  for (const file of ['hostname', 'machine-id']) symlinkSync(ramdisk.path('passwd'), ramdisk.path(`mnt/etc/${file}`));
  await ramdisk.shell(INJECT);
  t.equal(ramdisk.read('passwd'), 'of the ramdisk\n', 'a link in the place of a file is replaced');
  t.equal(readFileSync(ramdisk.path('mnt/etc/hostname'), 'utf8'), 'web-1\n');
});

test('a server whose files do not come is not given half an identity', async (t) => {
  const ramdisk = fakeRamdisk(t);
  ramdisk.put('mnt/etc/machine-id', '');
  const refused = 'call() { echo "{\\"error\\":{\\"message\\":\\"no claim\\"}}" >"$RUN/answer"; echo 403; }';
  await t.rejects(ramdisk.shell(`${refused}; stage_inject`), /FAIL boot.stage-failed .*403 no claim/);
  t.equal(ramdisk.read('mnt/etc/machine-id'), '');
});

/** With files that came. */
const INJECT = 'umask 077; call() { cp "$RUN/tar" "$RUN/answer"; echo 200; }; stage_inject';
