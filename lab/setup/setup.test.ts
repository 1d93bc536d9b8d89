import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import type { Test } from 'tap';

test('npm packages are installed once for one lock file', (t) => {
  const machine = fakeMachine(t, { user: 1000, lacks: '' });
  t.match(machine.setup('--fast'), { status: 0, stdout: /^setup: npm packages \.\.\. \d+ s\n$/ });
  t.match(machine.setup('--fast'), { status: 0, stdout: /^$/ });
  const linked = 'rebuild --loglevel=error\n';
  t.equal(machine.calls('npm'), `ci --loglevel=error --no-progress\n${linked}`, 'this npm did not link Node 24');

  writeFileSync(join(machine.root, 'package-lock.json'), 'changed');
  t.match(machine.setup('--fast'), { status: 0, stdout: /npm packages/ });
  t.end();
});

test('npm packages that cannot be installed are an error, told with what npm wrote, and tried again', (t) => {
  const machine = fakeMachine(t, { user: 1000, lacks: '', npm: 'echo no network; exit 1' });
  t.match(machine.setup('--fast'), { status: 1, stderr: /no network\nsetup: this failed: npm ci/ });
  t.match(machine.setup('--fast'), { status: 1 });
  t.end();
});

test('without root one line says what to run, and nothing is installed', (t) => {
  const machine = fakeMachine(t, { user: 1000, lacks: 'tshark' });
  machine.setup('--fast');
  const whole = machine.setup();
  t.match(whole, { status: 1, stdout: /^$/, stderr: /^setup: .*run: sudo npm run test\n$/ });
  const fast = machine.setup('--fast');
  t.match(fast, { status: 0, stdout: /run: sudo apt-get install --no-install-recommends tshark \nsetup: going on/ });
  t.equal(machine.calls('apt-get'), '');
  t.end();
});

test('the whole set-up asks for the packages of machines, too, and then prepares what they boot', (t) => {
  const machine = fakeMachine(t, { user: 0, lacks: '' });
  t.match(machine.setup(), { status: 0 });
  t.match(machine.calls('dpkg-query'), /postgresql .*qemu-system-x86/);
  t.notMatch(machine.calls('dpkg-query'), /kea-dhcp4-server/);
  t.match(machine.calls('node'), 'lab/setup/prepare.ts');
  machine.setup('--bench');
  t.match(
    machine.calls('dpkg-query').trim().split('\n').at(-1),
    /qemu-system-x86 .*kea-dhcp4-server/,
    'benches need peers',
  );
  machine.setup('--fast');
  t.notMatch(machine.calls('dpkg-query').trim().split('\n').at(-1), /qemu-system-x86/);
  t.equal(machine.calls('apt-get'), '');
  t.end();
});

/** A copy of the script in a folder of its own, with programs that only write down how they were called. */
function fakeMachine(t: Test, { user, lacks, npm = '' }: { user: number; lacks: string; npm?: string }) {
  const root = mkdtempSync(join(tmpdir(), 'rs-setup-'));
  t.teardown(() => rmSync(root, { recursive: true }));
  for (const folder of ['lab', 'bin', 'node_modules']) mkdirSync(join(root, folder));
  copyFileSync(join(import.meta.dirname, '../setup.sh'), join(root, 'lab/setup.sh'));
  writeFileSync(join(root, 'package-lock.json'), '{}');
  const programs = {
    npm,
    node: 'echo v24.0.0',
    'apt-get': '',
    id: `echo ${user}`,
    'dpkg-query': `for p; do [ "$p" = "${lacks}" ] || printf 'installed %s:' "$p"; done`,
  };
  for (const [name, body] of Object.entries(programs)) {
    const source = `#!/bin/sh\necho "$*" >>'${join(root, name)}.calls'\n${body}\n`;
    writeFileSync(join(root, 'bin', name), source, { mode: 0o755 });
  }
  return {
    root,
    setup(...args: string[]): { status: number | null; stdout: string; stderr: string } {
      const env = { PATH: `${join(root, 'bin')}:${process.env.PATH ?? ''}` };
      return spawnSync('sh', [join(root, 'lab/setup.sh'), ...args], { env, encoding: 'utf8' });
    },
    calls(program: keyof typeof programs): string {
      const file = join(root, `${program}.calls`);
      return existsSync(file) ? readFileSync(file, 'utf8') : '';
    },
  };
}
