import { existsSync, readFileSync, statSync } from 'node:fs';

import { test } from 'tap';

import { FSTAB, imageDisk, noLoopDisks, onLoopDisk, run } from './loop-disk.fixture.ts';

const skip = noLoopDisks;

test('a swap file is one that the kernel would take, on every file system', { skip }, async (t) => {
  for (const fs of ['ext4', 'xfs', 'btrfs'] as const) {
    const ramdisk = onLoopDisk(t, imageDisk(t, fs), { root_partition: '3', root_fs: fs });
    ramdisk.put('run/swap', '48\n');
    t.equal(await ramdisk.stage('grow'), undefined, fs);
    await ramdisk.shell('write_fstab');
    const file = ramdisk.path('mnt/swapfile');
    const { size, blocks, mode } = statSync(file);
    t.match([size, mode & 0o777], [48 * 1024 ** 2, 0o600], fs);
    t.ok(blocks * 512 >= size, 'it has no holes');
    t.equal(run('blkid', '-p', '-o', 'value', '-s', 'TYPE', file), 'swap\n');
    if (fs === 'btrfs') t.match(run('lsattr', file), /^\S*C/, 'it is not copied on write');
    t.match(
      readFileSync(ramdisk.path('mnt/etc/fstab'), 'utf8'),
      /^UUID=root-of.*\n(.*\n)*\/swapfile none swap sw 0 0\n$/m,
    );
  }
});

test('an order for neither leaves the fstab of the image as it is', { skip }, async (t) => {
  const ramdisk = onLoopDisk(t, imageDisk(t, 'ext4'), { root_partition: '3', root_fs: 'ext4' });
  t.equal(await ramdisk.stage('grow'), undefined);
  await ramdisk.shell('write_fstab');
  t.equal(ramdisk.read('mnt/etc/fstab'), FSTAB);
  t.notOk(existsSync(ramdisk.path('mnt/swapfile')));
});
