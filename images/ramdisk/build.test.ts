import { execFile } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { test } from 'tap';

import { buildRamdisk } from './build.ts';

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
    ...['deploy', 'protocol.sh', 'network.sh', 'disk.sh', 'image.sh', 'inject.sh', 'inspect.sh', 'wipe.sh'].map(
      (script) => `usr/lib/rackstart/${script}`,
    ),
    ...['curl', 'dash', 'dd', 'kexec', 'openssl', 'resize2fs', 'sfdisk', 'ssh-keygen', 'zstd'].map(
      (tool) => `usr/bin/${tool}`,
    ),
  ]) {
    t.ok(files.has(file), file);
  }
  for (const driver of [
    'virtio_net',
    'virtio_blk',
    'e1000e',
    'ixgbe',
    'mlx5_core',
    'nvme',
    'ahci',
    'mpt3sas',
    'ext4',
  ]) {
    t.match(stdout, new RegExp(`/${driver}\\.ko$`, 'm'));
  }
});

// Where the builder puts the new kernel's files for mkinitramfs, in a mount namespace of its own.
function borrowedPlaces(): string[] {
  const targets = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '');
  return targets.filter((target) => /^(?:(?:\/usr)?\/lib\/modules|\/boot)$/.test(target));
}
