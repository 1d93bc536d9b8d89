import { execFileSync, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import { test, type Test } from 'tap';

import { parseConfig } from './config.ts';

const project = new URL('..', import.meta.url).pathname;
const missing =
  process.getuid?.() !== 0
    ? 'needs root'
    : ['/usr/bin/systemctl', '/usr/bin/systemd-sysusers', '/usr/bin/systemd-tmpfiles'].find(
        (path) => !existsSync(path),
      );
const able = { skip: missing !== undefined && `${missing} is missing` };

test('without settings everything is put in its place, and no port is opened at boot', able, (t) => {
  const { install, path } = host(t);
  t.match(install(), { status: 0, stdout: /made a master key/ });
  t.equal(statSync(path('etc/credstore/rackstart-master-key')).size, 32);
  t.equal(statSync(path('etc/credstore/rackstart-master-key')).mode & 0o777, 0o600);
  t.ok(existsSync(path('opt/rackstart/appliance/config.ts')));
  t.match(readFileSync(path('etc/passwd'), 'utf8'), /^rackstart:/m);
  t.same(wanted(path), ['multi-user.target.wants/rackstart.service']);
  t.equal(statSync(path('usr/local/bin/rackstart')).mode & 0o111, 0o111);
  t.end();
});

test('the example of settings is one that the daemon takes', (t) => {
  const example = readFileSync(join(project, 'systemd/rackstart.yaml'), 'utf8');
  const credentials = { CREDENTIALS_DIRECTORY: '/run/credentials/rackstart.service' };
  t.match(parseConfig(example, '/etc/rackstart', credentials), {
    state: '/var/lib/rackstart',
    masterKey: '/run/credentials/rackstart.service/rackstart-master-key',
    provisioning: { device: 'eth1' },
  });
  t.end();
});

test('ports and service are tied to the NIC that the settings name, and follow it when it changes', able, (t) => {
  const { install, path } = host(t);
  settle(path, 'enp3s0.7-a');
  t.match(install(), { status: 0 });
  const device = String.raw`sys-subsystem-net-devices-enp3s0.7\x2da.device`;
  for (const name of ['dhcp', 'proxydhcp', 'tftp']) {
    const dropin = readFileSync(path(`etc/systemd/system/rackstart-${name}.socket.d/device.conf`), 'utf8');
    t.match(dropin, '[Socket]\nBindToDevice=enp3s0.7-a\n');
  }
  t.match(readFileSync(path('etc/systemd/system/rackstart.service.d/device.conf'), 'utf8'), `BindsTo=${device}\n`);
  const units = ['rackstart-dhcp.socket', 'rackstart-proxydhcp.socket', 'rackstart-tftp.socket', 'rackstart.service'];
  const atBoot = 'multi-user.target.wants/rackstart.service';
  t.same(wanted(path), [atBoot, ...units.map((unit) => `${device}.wants/${unit}`)]);

  settle(path, 'eth1');
  t.match(install(), { status: 0 });
  t.same(wanted(path), [atBoot, ...units.map((unit) => `sys-subsystem-net-devices-eth1.device.wants/${unit}`)]);
  t.end();
});

test('another installation replaces the program, and keeps settings, master key and state', able, (t) => {
  const { install, path } = host(t);
  settle(path, 'eth1');
  t.match(install(), { status: 0 });
  const kept = ['etc/rackstart/rackstart.yaml', 'etc/credstore/rackstart-master-key', 'var/lib/rackstart/rackstart.db'];
  mkdirSync(path('var/lib/rackstart'), { recursive: true });
  writeFileSync(path('var/lib/rackstart/rackstart.db'), 'state');
  const before = kept.map((file) => readFileSync(path(file), 'hex'));
  writeFileSync(path('opt/rackstart/of-an-older-release'), '');
  // In that system there is no program to convert images with, either.
  t.match(install(), {
    status: 0,
    stdout: /^rackstart: copying .*\n(rackstart: the package \S+ is missing: .*\n){2}$/,
  });
  t.same(
    kept.map((file) => readFileSync(path(file), 'hex')),
    before,
  );
  t.notOk(existsSync(path('opt/rackstart/of-an-older-release')));
  t.end();
});

test('a key that is stored encrypted gets no second one beside it', able, (t) => {
  const { install, path } = host(t);
  mkdirSync(path('etc/credstore.encrypted'), { recursive: true });
  writeFileSync(path('etc/credstore.encrypted/rackstart-master-key'), '');
  t.match(install(), { status: 0 });
  t.notOk(existsSync(path('etc/credstore/rackstart-master-key')));
  t.end();
});

test('wrong settings, or a release without its packages, change nothing', able, (t) => {
  const { install, path, release } = host(t);
  mkdirSync(path('etc/rackstart'), { recursive: true });
  writeFileSync(path('etc/rackstart/rackstart.yaml'), 'state: 7');
  t.match(install(), { status: 1, stderr: /^rackstart: The configuration is wrong: .*state/ });
  t.notOk(existsSync(path('opt')));
  rmSync(join(release, 'node_modules'));
  t.match(install(), { status: 1, stderr: /npm ci --omit=dev/ });
  t.notOk(existsSync(path('opt')));
  t.end();
});

/** A release of what the installer looks at, and a system to install it into. */
function host(t: Test) {
  const directory = mkdtempSync(join(tmpdir(), 'rs-install-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const [release, root] = ['release', 'system'].map((name) => join(directory, name)) as [string, string];
  mkdirSync(join(root, 'etc'), { recursive: true });
  const settings = [
    'appliance/config.ts',
    'appliance/config-file.ts',
    'images/images-config.ts',
    'images/ingest/public-address.ts',
  ];
  for (const name of ['systemd', ...settings, 'appliance/kernel', 'appliance/providers/simulation']) {
    cpSync(join(project, name), join(release, name), { recursive: true });
  }
  cpSync(join(project, 'package.json'), join(release, 'package.json'));
  symlinkSync(join(project, 'node_modules'), join(release, 'node_modules'));
  return {
    release,
    install: () =>
      spawnSync('sh', [join(release, 'systemd/install.sh'), '--root', root], { encoding: 'utf8', cwd: '/' }),
    path: (name: string) => join(root, name),
  };
}

function settle(path: (name: string) => string, device: string): void {
  const file = path('etc/rackstart/rackstart.yaml');
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `{ state: /s, ramdisk: /r, api: {}, provisioning: [{ device: ${device}, address: 10.77.0.1 }] }`);
}

// What starts what, in the order of names.
function wanted(path: (name: string) => string): string[] {
  const links = execFileSync('find', ['.', '-type', 'l', '-path', '*.wants/*', '-printf', String.raw`%P\n`], {
    cwd: path('etc/systemd/system'),
    encoding: 'utf8',
  });
  return links.trim().split('\n').sort();
}
