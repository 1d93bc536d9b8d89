import { statSync } from 'node:fs';

import { test } from 'tap';
import type { Test } from 'tap';

import type { FakeRamdisk } from './deploy.fixture.ts';
import type { LoopDisk } from './loop-disk.fixture.ts';
import { FSTAB, imageDisk, loopDisk, noLoopDisks, onLoopDisk, run } from './loop-disk.fixture.ts';

const skip = noLoopDisks;

test(
  'a data disk becomes one file system, and the fstab of the image keeps its own lines beside ours',
  { skip },
  async (t) => {
    for (const fs of ['ext4', 'xfs']) {
      // What was there before is a file system on all of it, and a table at its end.
      const data = loopDisk(t, 1_100, 'label: gpt\nsize=200MiB\nsize=300MiB\n');
      run('mkfs.ext4', '-q', '-F', '-L', 'BEFORE', data.partition(2));
      const ramdisk = machine(t, imageDisk(t, 'ext4'), data, fs);
      t.equal(await ramdisk.stage('grow'), undefined, fs);
      await ramdisk.shell('write_fstab');

      const blkid = (tag: string) => run('blkid', '-p', '-o', 'value', '-s', tag, data.partition(1)).trim();
      t.equal(blkid('TYPE'), fs);
      t.equal(blkid('LABEL'), 'data');
      t.equal(run('sfdisk', '--list', '--output', 'device', '--quiet', data.device), `Device\n${data.partition(1)}\n`);
      t.ok(Number(run('blockdev', '--getsize64', data.partition(1))) > 1_097 * 1024 ** 2, 'it has all of the disk');
      t.equal(
        ramdisk.read('mnt/etc/fstab'),
        `${FSTAB.replace(/^LABEL=OLD.*\n/m, '')}UUID=${blkid('UUID')} /srv/data ${fs} defaults,nofail 0 2\n`,
      );
      t.ok(statSync(ramdisk.path('mnt/srv/data')).isDirectory());
      data.inside(1, 'echo usable >file');
    }
  },
);

test('an image whose links lead out of it gets nothing written through them', { skip }, async (t) => {
  const data = loopDisk(t, 1_100);
  for (const [trap, reason] of [
    ['ln -s /tmp srv', /something else than a directory at \/srv$/],
    ['mkdir srv; echo file >srv/data', /something else than a directory at \/srv\/data$/],
  ] as const) {
    const root = imageDisk(t, 'ext4');
    root.inside(3, trap);
    const failure = await machine(t, root, data).stage('grow');
    t.match(failure, { code: 'image.invalid', reason }, trap);
    t.throws(() => run('blkid', '-p', data.device), /blkid/, 'the data disk was not touched');
  }

  const root = imageDisk(t, 'ext4');
  const ramdisk = machine(t, root, data);
  ramdisk.put('run/swap', '1\n');
  ramdisk.put('outside', 'as it was');
  const outside = ramdisk.path('outside');
  root.inside(3, `rm etc/fstab; ln -s ${outside} etc/fstab; ln -s ${outside} swapfile`);
  t.equal(await ramdisk.stage('grow'), undefined);
  await ramdisk.shell('write_fstab');
  t.equal(ramdisk.read('outside'), 'as it was');
  t.match(ramdisk.read('mnt/etc/fstab'), /^UUID=.* \/srv\/data ext4 .*\n\/swapfile none swap sw 0 0\n$/);
});

/** As after the stages `disk` and `image`. */
function machine(t: Test, root: LoopDisk, data: LoopDisk, fs = 'ext4'): FakeRamdisk {
  const ramdisk = onLoopDisk(t, root, { root_partition: '3', root_fs: 'ext4' });
  ramdisk.put('run/roles', `${ramdisk.read('run/roles')}data1 ${data.device.replace('/dev/', '')}\n`);
  ramdisk.put('run/data', `1 ${fs} data /srv/data\n`);
  return ramdisk;
}
