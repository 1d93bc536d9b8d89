import { execFile } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { test } from 'tap';

import { buildRamdisk } from './build.ts';
import { deployParts } from './deploy.fixture.ts';

const cacheDirectory = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'rackstart');
const run = promisify(execFile);
const skip =
  process.getuid?.() !== 0
    ? 'needs root, to build a ramdisk when none is there'
    : !existsSync('/usr/sbin/mkinitramfs') && 'Debian package initramfs-tools-core is missing: npm test installs it';

test('the ramdisk is small, and whole', { skip, timeout: 300_000 }, async (t) => {
  const mounts = borrowedPlaces();
  const ramdisk = await buildRamdisk({ cacheDirectory, progress: (line) => t.comment(line) });
  t.same(borrowedPlaces(), mounts, 'no mount is left');
  t.ok(ramdisk.bytes <= 45_000_000, `${ramdisk.bytes} bytes`);
  t.equal(ramdisk.bytes, statSync(ramdisk.kernel).size + statSync(ramdisk.initrd).size);

  const again = await buildRamdisk({ cacheDirectory, progress: () => t.fail('nothing is built') });
  t.same(again, ramdisk);

  const { stdout } = await run('lsinitramfs', [ramdisk.initrd]);
  const files = new Set(stdout.split('\n'));
  for (const file of [
    'scripts/rackstart',
    ...SCRIPTS.map((script) => `usr/lib/rackstart/${script}`),
    ...TOOLS.map((tool) => `usr/bin/${tool}`),
  ]) {
    t.ok(files.has(file), file);
  }
  for (const driver of DRIVERS) {
    t.match(stdout, new RegExp(`/${driver}\\.ko$`, 'm'));
  }
  t.notMatch(stdout, /md-raid-assembly|etc\/mdadm\//, 'and nothing that assembles an array unasked');
});

const SCRIPTS = ['deploy', ...deployParts.map((part) => `${part}.sh`)];
const TOOLS = [
  'btrfs',
  'curl',
  'dash',
  'dd',
  'efibootmgr',
  'hdparm',
  'ipmitool',
  'kexec',
  'mdadm',
  'mke2fs',
  'mkfs.xfs',
  'mkswap',
  'nvme',
  'openssl',
  'resize2fs',
  'sfdisk',
  'smartctl',
  'ssh-keygen',
  'tcpdump',
  'write-chunks',
  'xfs_growfs',
];
const DRIVERS = [
  'virtio_net',
  'virtio_blk',
  'e1000e',
  'ixgbe',
  'mlx5_core',
  'nvme',
  'ahci',
  'mpt3sas',
  'ext4',
  'xfs',
  'btrfs',
  'raid1',
  'efivarfs',
  'ipmi_devintf',
  'ipmi_si',
  'amd64_edac',
  'i10nm_edac',
  'skx_edac',
];

// Where the builder puts the new kernel's files for mkinitramfs, in a mount namespace of its own.
function borrowedPlaces(): string[] {
  const targets = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '');
  return targets.filter((target) => /^(?:(?:\/usr)?\/lib\/modules|\/boot)$/.test(target));
}
