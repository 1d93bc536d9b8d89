import { statfsSync } from 'node:fs';

import { test } from 'tap';

import { loopDisk, noLoopDisks, onLoopDisk, run } from './loop-disk.fixture.ts';

const GIB = 1024 ** 3;
const skip = noLoopDisks;

// As cloud images have it: the root is the last on the disk, and the first in the table.
const ROOT_LAST = 'label: gpt\n14 : start=2048, size=8MiB\n1 : start=32MiB\n';

test('the root grows to the end of its disk, whichever file system and number it has', { skip }, async (t) => {
  for (const fs of ['ext4', 'xfs', 'btrfs']) {
    const disk = loopDisk(t, 400, ROOT_LAST);
    run(`mkfs.${fs}`, '-q', disk.partition(1));
    disk.inside(1, 'echo still there >file');
    disk.enlarge(1024);

    const ramdisk = onLoopDisk(t, disk, { root_partition: '1', root_fs: fs });
    t.equal(await ramdisk.stage('grow'), undefined, fs);
    const { bsize, blocks } = statfsSync(ramdisk.path('mnt'));
    t.ok(bsize * blocks > 0.88 * GIB, `${fs} has ${bsize * blocks} bytes`);
    t.equal(ramdisk.read('mnt/file'), 'still there\n');
    t.equal(ramdisk.read('run/root'), `${disk.partition(1)}\n`);
    const bytes = run('blockdev', '--getsize64', disk.partition(1)).trim();
    t.equal(ramdisk.read('run/facts'), `root_bytes=${bytes}\n`);
    t.ok(Number(bytes) > GIB - 34 * 1024 ** 2, 'the partition has what the table leaves it');
    t.match(run('sfdisk', '--verify', disk.device), /No errors detected/, 'and both tables agree');
    run('umount', ramdisk.path('mnt'));
  }
});

test(
  'a root on a btrfs is what its kernel will find: the subvolume of its arguments, else the default one',
  { skip },
  async (t) => {
    const disk = loopDisk(t, 400, ROOT_LAST);
    run('mkfs.btrfs', '-q', disk.partition(1));
    disk.inside(1, 'for name in one two; do btrfs subvolume create $name; echo $name >$name/which; done');
    disk.inside(1, 'btrfs subvolume set-default one');
    for (const [kernelArgs, expected] of [
      ['quiet', 'one'],
      ['quiet rootflags=compress=zstd:1,subvol=two ro', 'two'],
    ] as const) {
      const ramdisk = onLoopDisk(t, disk, { root_partition: '1', root_fs: 'btrfs', kernel_args: kernelArgs });
      t.equal(await ramdisk.stage('grow'), undefined, kernelArgs);
      t.equal(ramdisk.read('mnt/which'), `${expected}\n`);
      run('umount', ramdisk.path('mnt'));
    }
  },
);

test('a table of the old kind grows, too', { skip }, async (t) => {
  const disk = loopDisk(t, 64, 'label: dos\nstart=2048, size=8MiB\nstart=16MiB\n');
  run('mkfs.ext4', '-q', disk.partition(2));
  disk.enlarge(256);
  const ramdisk = onLoopDisk(t, disk, { root_partition: '2', root_fs: 'ext4' });
  t.equal(await ramdisk.stage('grow'), undefined);
  t.equal(run('blockdev', '--getsize64', disk.partition(2)), `${240 * 1024 ** 2}\n`);
});

test("what can't grow is the image's fault, is named, and is left as it is", { skip }, async (t) => {
  const disk = loopDisk(t, 128, 'label: gpt\n2 : start=2048, size=40MiB\n3 : start=64MiB\n');
  run('mkfs.ext4', '-q', disk.partition(2));
  run('mkfs.ext4', '-q', disk.partition(3));
  disk.enlarge(256);
  const table = run('sfdisk', '--dump', disk.device);
  for (const [order, reason] of [
    [
      { root_partition: '2', root_fs: 'ext4' },
      new RegExp(`partition 2, can't grow: behind it lies ${disk.partition(3)}$`),
    ],
    [{ root_partition: '1', root_fs: 'ext4' }, /has no partition 1$/],
  ] as const) {
    const failure = await onLoopDisk(t, disk, order).stage('grow');
    t.match(failure, { code: 'image.invalid', reason });
    t.equal(run('sfdisk', '--dump', disk.device), table);
  }
  const failure = await onLoopDisk(t, disk, { root_partition: '3', root_fs: 'xfs' }).stage('grow');
  t.match(failure, { code: 'image.invalid', reason: /partition 3 of the image can't be mounted as xfs: .*/ });
});

test('a disk without a partition table, and a file system of another kind, are no image', { skip }, async (t) => {
  const disk = loopDisk(t, 16);
  const failure = await onLoopDisk(t, disk, { root_partition: '1', root_fs: 'ext4' }).stage('grow');
  t.match(failure, { code: 'image.invalid', reason: /has no partition table/ });
  const other = await onLoopDisk(t, disk, { root_partition: '1', root_fs: 'ntfs' }).stage('grow');
  t.equal(other?.code, 'boot.protocol');
});
