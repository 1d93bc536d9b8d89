import { chmodSync, existsSync, rmSync } from 'node:fs';

import { test } from 'tap';
import type { Test } from 'tap';

import type { FakeRamdisk } from './deploy.fixture.ts';
import type { LoopDisk } from './loop-disk.fixture.ts';
import { loopDisk, noLoopDisks, onLoopDisk, run } from './loop-disk.fixture.ts';

const skip = noLoopDisks;

test(
  'the newest kernel of the image is started with its own initrd, and nothing of the disk is mounted then',
  { skip },
  async (t) => {
    const { disk, ramdisk, start } = installed(t);
    for (const [kernels, initrd, expected] of [
      [['6.1.0-9-amd64', '6.1.0-10-amd64'], 'initrd.img-6.1.0-10-amd64', '6.1.0-10-amd64'],
      [['0-rescue-abc', '6.12.0-55.el10.x86_64'], 'initramfs-6.12.0-55.el10.x86_64.img', '6.12.0-55.el10.x86_64'],
      [['6.4.0-150600.23-default'], 'initrd-6.4.0-150600.23-default', '6.4.0-150600.23-default'],
    ] as const) {
      const files = [...kernels.map((version) => `vmlinuz-${version}`), initrd];
      disk.inside(3, `rm -rf boot; mkdir boot; cd boot; touch ${files.join(' ')}; ln -s vmlinuz-99 vmlinuz-99`);
      t.equal(await start(), undefined, expected);
      const uuid = run('blkid', '-p', '-o', 'value', '-s', 'UUID', disk.partition(3)).trim();
      const boot = ramdisk.path('mnt/boot');
      t.equal(
        ramdisk.read('run/kexec'),
        `--load --no-checks ${boot}/vmlinuz-${expected} --initrd=${boot}/${initrd} --command-line=root=UUID=${uuid} ro quiet\n--exec\n`,
      );
      t.notOk(existsSync(boot), 'unmounted');
    }
  },
);

test('a kernel on a partition of its own is found where the fstab of the image says', { skip }, async (t) => {
  const { disk, ramdisk, start } = installed(t);
  const uuid = run('blkid', '-p', '-o', 'value', '-s', 'UUID', disk.partition(2)).trim();
  disk.inside(2, 'touch vmlinuz-6.8.0 initrd.img-6.8.0');
  for (const device of [`UUID=${uuid}`, 'LABEL=BOOT', 'LABEL="BOOT"']) {
    disk.inside(
      3,
      `mkdir -p etc boot; touch boot/vmlinuz-1 boot/initrd.img-1; echo '# /boot\n${device} /boot ext4 ro 0 2' >etc/fstab`,
    );
    t.equal(await start(), undefined, device);
    t.match(ramdisk.read('run/kexec'), 'mnt/boot/vmlinuz-6.8.0 ', device);
    t.notMatch(run('cat', '/proc/mounts'), ramdisk.path('mnt'));
  }
});

test(
  'a hostile fstab mounts nothing: no path, no disk but its own, no file system but those of a kernel',
  { skip },
  async (t) => {
    const { disk, start } = installed(t);
    const other = loopDisk(t, 32, 'label: gpt\nstart=2048\n');
    run('mkfs.ext4', '-q', '-L', 'OTHER', other.partition(1));
    run('mkswap', '-L', 'SWAP', disk.partition(1));
    for (const [fstab, reason] of [
      [`${other.partition(1)} /boot ext4 ro`, /does not say by UUID or LABEL/],
      ['LABEL=$(reboot) /boot ext4 ro', /does not say by UUID or LABEL/],
      ['LABEL=OTHER /boot ext4 ro', /not one partition of the image is its \/boot, LABEL=OTHER: none/],
      ['LABEL=SWAP /boot ext4 ro', /a kind this ramdisk can't read: swap/],
    ] as const) {
      disk.inside(
        3,
        `mkdir -p etc boot; touch boot/vmlinuz-1 boot/initrd.img-1; cat >etc/fstab <<'END'\n${fstab}\nEND\n`,
      );
      t.match(await start(), { code: 'image.invalid', reason }, fstab);
      t.notOk(run('cat', '/proc/mounts').includes(other.partition(1)));
    }
    disk.inside(3, 'rm -rf boot; ln -s /etc boot; echo LABEL=BOOT /boot ext4 ro >etc/fstab');
    t.match(await start(), { code: 'image.invalid', reason: /no directory \/boot/ }, 'a link out of the image');
    disk.inside(
      3,
      'rm boot; mkdir boot; rm etc/fstab; ln -s /proc/kmsg etc/fstab; touch boot/vmlinuz-1 boot/initrd.img-1',
    );
    t.equal(await start(), undefined, 'a link is no fstab');
  },
);

test('where kexec is known to fail the machine restarts, with nothing of the disk mounted', { skip }, async (t) => {
  const { ramdisk, start } = installed(t);
  ramdisk.put('bin/reboot', '#!/bin/sh\ngrep " $NEW" /proc/mounts >"$RUN/mounted"\necho "reboot $*" >>"$RUN/kexec"\n');
  chmodSync(ramdisk.path('bin/reboot'), 0o755);
  ramdisk.put('run/order', `${ramdisk.read('run/order')}handoff=reset\n`);
  t.equal(await start(), undefined);
  t.equal(ramdisk.read('run/kexec'), 'reboot -f\n', 'no kernel was loaded');
  t.equal(ramdisk.read('run/mounted'), '');
});

test('an image without kernel or initrd says so', { skip }, async (t) => {
  const { disk, start } = installed(t);
  disk.inside(3, 'mkdir boot');
  t.match(await start(), { code: 'image.invalid', reason: 'the image has no kernel in /boot' });
  disk.inside(3, 'touch boot/vmlinuz-5; ln -s /etc/passwd boot/initrd-5');
  t.match(await start(), { code: 'image.invalid', reason: 'the image has no initrd for its kernel 5' });
});

/** An image whose root is partition 3, and partition 2 a file system BOOT. */
function installed(t: Test): { disk: LoopDisk; ramdisk: FakeRamdisk; start: () => ReturnType<FakeRamdisk['stage']> } {
  const disk = loopDisk(t, 64, 'label: gpt\nsize=8MiB\nsize=16MiB\nsize=32MiB\n');
  run('mkfs.ext4', '-q', '-L', 'BOOT', disk.partition(2));
  run('mkfs.ext4', '-q', disk.partition(3));
  const ramdisk = onLoopDisk(t, disk, {});
  ramdisk.put('run/root', `${disk.partition(3)}\n`);
  ramdisk.put('bin/kexec', '#!/bin/sh\necho "$*" >>"$RUN/kexec"\n');
  chmodSync(ramdisk.path('bin/kexec'), 0o755);
  const start = async () => {
    rmSync(ramdisk.path('run/kexec'), { force: true });
    run('mount', disk.partition(3), ramdisk.path('mnt'));
    const failure = await ramdisk.stage('kexec');
    if (failure !== undefined) await ramdisk.shell('unmount_all');
    return failure;
  };
  return { disk, ramdisk, start };
}
