import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { test } from 'tap';

const UNITS = new URL('../../systemd/', import.meta.url).pathname;
const analyze = spawnSync('systemd-analyze', ['--version']).status === 0;
const without = { skip: !analyze && 'systemd-analyze is missing (Debian package systemd)' };

test('systemd finds nothing to say against the units', without, (t) => {
  const folder = t.testdir();
  const units = readdirSync(UNITS).filter((name) => /\.(service|socket)$/.test(name));
  for (const name of units) {
    // The program is installed nowhere here.
    const text = readFileSync(join(UNITS, name), 'utf8').replace(/^ExecStart=\S+/m, `ExecStart=${process.execPath}`);
    writeFileSync(join(folder, name), text);
  }
  t.equal(units.length, 4, units.join());
  const { status, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', ...units], {
    cwd: folder,
    encoding: 'utf8',
  });
  // What other units of this host are told is none of ours.
  t.same({ status, ours: stderr.split('\n').filter((line) => line.includes('rackstart')) }, { status: 0, ours: [] });
  t.end();
});

test('the service is exposed at most 2.5 by the count of systemd', without, (t) => {
  const service = join(UNITS, 'rackstart.service');
  const { status, stdout } = spawnSync(
    'systemd-analyze',
    ['security', '--offline=true', '--threshold=25', '--no-pager', service],
    { encoding: 'utf8' },
  );
  t.equal(status, 0, stdout.trim().replace(/^.*\n/s, ''));
  t.end();
});

test('each socket unit hands its port to the daemon under its name, for one device alone', (t) => {
  for (const [name, port] of [
    ['dhcp', 67],
    ['proxydhcp', 4011],
    ['tftp', 69],
  ] as const) {
    const lines = readFileSync(join(UNITS, `rackstart-${name}.socket`), 'utf8').split('\n');
    const settings = ['Service=rackstart.service', `FileDescriptorName=${name}`, `ListenDatagram=0.0.0.0:${port}`];
    for (const setting of settings) t.ok(lines.includes(setting), setting);
    t.equal(lines.filter((line) => /^BindToDevice=\w+$/.test(line)).length, 1);
  }
  t.end();
});

const sysusers = spawnSync('systemd-sysusers', ['--version']).status === 0;
test('the user and the folders are made', { skip: !sysusers && 'systemd-sysusers is missing' }, (t) => {
  const root = t.testdir();
  mkdirSync(join(root, 'etc'));
  for (const [program, file] of [
    ['systemd-sysusers', 'rackstart.sysusers'],
    ['systemd-tmpfiles', 'rackstart.tmpfiles'],
  ] as const) {
    cpSync(join(UNITS, file), join(root, file));
    const create = program === 'systemd-tmpfiles' ? ['--create'] : [];
    const { status, stderr } = spawnSync(program, [...create, `--root=${root}`, join(UNITS, file)], {
      encoding: 'utf8',
    });
    t.equal(status, 0, stderr);
  }
  t.match(readFileSync(join(root, 'etc/passwd'), 'utf8'), /^rackstart:x:\d+:\d+:.*:\/var\/lib\/rackstart:.*nologin$/m);
  t.match(readdirSync(join(root, 'etc')), /rackstart|credstore/);
  t.end();
});
