import { chmodSync, existsSync, statfsSync } from 'node:fs';

import { test } from 'tap';
import type { Test } from 'tap';

import type { FakeRamdisk } from './deploy.fixture.ts';
import type { LoopDisk } from './loop-disk.fixture.ts';
import { loopDisk, noLoopDisks, onLoopDisk, run } from './loop-disk.fixture.ts';

const MIB = 1024 * 1024;
const skip = noLoopDisks;

// As cloud images have it: the ESP before the root, the root the last on the disk and the first in the table.
const TABLE = 'label: gpt\n15 : start=2048, size=8MiB, type=U\n1 : start=12MiB, name=root\n';

// An array of one half is to those above it what lies there before the superblock, which it has at most 1 MiB for.
const MDADM = `#!/bin/sh -eu
echo "$*" >>"$RUN/mdadm"
case $1 in
  --create)
    for word; do [ "$word" = missing ] || half=$word; done
    ln -s "$(losetup --find --show --sizelimit $(($(blockdev --getsize64 "$half") - ${MIB})) "$half")" "$2"
    echo 'md0 : active raid1' >"$PROC/mdstat"
    ;;
  --stop)
    losetup --detach "$(readlink "$2")"
    rm "$2" "$PROC/mdstat"
    ;;
esac
`;

test('both disks start the same system, on roots of one size that grew in place', { skip }, async (t) => {
  for (const fs of ['ext4', 'xfs']) {
    const { ramdisk, first, second } = machine(t, fs);
    first.enlarge(700);
    t.equal(await ramdisk.stage('grow'), undefined, fs);
    await ramdisk.shell('write_fstab');

    t.equal(ramdisk.read('mnt/file'), 'still there\n');
    const { bsize, blocks } = statfsSync(ramdisk.path('mnt'));
    t.ok(bsize * blocks > 500 * MIB && bsize * blocks < 600 * MIB, 'the file system has what the smaller disk has');
    t.equal(ramdisk.read('run/root'), `${ramdisk.path('md0')}\n`);
    t.match(
      ramdisk.read('run/mdadm'),
      `--create ${ramdisk.path('md0')} --run --metadata=1.0 --level=1 --raid-devices=2 --bitmap=internal ` +
        `--homehost=any --name=root ${first.partition(1)} missing\n${ramdisk.path('md0')} --add ${second.partition(1)}\n`,
    );

    const [one, other] = [first, second].map(tableOf);
    t.same(other?.places, one?.places, 'one table');
    t.equal(new Set([...(one?.ids ?? []), ...(other?.ids ?? [])]).size, 6, 'of which each identifier is its own');
    for (const { device } of [first, second]) t.match(run('sfdisk', '--verify', device), /No errors detected/);
    run('cmp', '-n', '440', first.device, second.device);
    run('cmp', first.partition(15), second.partition(15));

    const uuid = (device: string) => run('blkid', '-p', '-o', 'value', '-s', 'UUID', device).trim();
    t.equal(
      ramdisk.read('mnt/etc/fstab'),
      `UUID=${uuid(ramdisk.path('md0'))} / ${fs} rw,discard 0 1\n` +
        `UUID=${uuid(second.partition(15))} /boot/efi vfat umask=0077,nofail 0 0\n`,
      'no line names one half',
    );
    await ramdisk.shell('let_go_of_disks');
    t.match(ramdisk.read('run/mdadm'), /\n--stop .*\/md0\n$/);
  }
});

test('what a mirror would not start with is refused, and the second disk left alone', { skip }, async (t) => {
  for (const [trap, reason] of [
    ['rm usr/sbin/mdadm', /no mdadm in its initramfs/],
    ['rm usr/share/initramfs-tools/hooks/mdadm', /no mdadm in its initramfs/],
    ['echo LABEL=BOOT /boot ext4 defaults 0 2 >>etc/fstab', /\/boot on another partition/],
    ['echo "  linux /boot/vmlinuz-1 root=PARTUUID=12 ro" >boot/grub/grub.cfg', /GRUB names its root by its partition/],
  ] as const) {
    const { ramdisk, first, second } = machine(t, 'ext4', trap);
    first.enlarge(500);
    t.match(await ramdisk.stage('grow'), { code: 'image.invalid', reason }, trap);
    t.throws(() => run('sfdisk', '--dump', second.device), /partition table/, 'nothing was written to it');
  }
  for (const mib of [399, 402]) {
    const { ramdisk, second } = machine(t, 'ext4', ':', mib);
    const failure = await ramdisk.stage('grow');
    t.match(failure, { code: 'image.invalid', reason: /fills the smaller disk of the mirror/ }, `${mib} MiB`);
    t.throws(() => run('sfdisk', '--dump', second.device), /partition table/);
  }
});

test('a root that no mirror can have is refused before a byte is written', { skip }, async (t) => {
  const { ramdisk } = machine(t, 'ext4');
  const order = ramdisk.read('run/order');
  for (const [lines, reason] of [
    [order.replace('root_fs=ext4', 'root_fs=btrfs'), /btrfs/],
    [order.replace('quiet', 'quiet root=/dev/sda1'), /name a root of their own/],
  ] as const) {
    ramdisk.put('run/order', lines);
    await t.rejects(ramdisk.shell('read_mirror'), reason);
  }
});

test('an array that does not stop is neither left running nor written over', { skip }, async (t) => {
  const { ramdisk } = machine(t, 'ext4');
  ramdisk.put('proc/mdstat', 'md0 : active raid1 sda1[0]\n');
  await t.rejects(
    ramdisk.shell('mdadm() { return 1; }; let_go_of_disks'),
    /boot.stage-failed the array can't be stopped/,
  );
  ramdisk.put('proc/mdstat', 'Personalities : [raid1]\nunused devices: <none>\n');
  t.equal(await ramdisk.shell('let_go_of_disks'), '');
  t.notOk(existsSync(ramdisk.path('run/mdadm')), 'and where there is none, mdadm is not asked');
});

/** As after the stages `disk` and `image`: the image on the first disk, on the second nothing. */
function machine(
  t: Test,
  fs: string,
  script = ':',
  secondMib = 600,
): { ramdisk: FakeRamdisk; first: LoopDisk; second: LoopDisk } {
  const first = loopDisk(t, 400, TABLE);
  const second = loopDisk(t, secondMib);
  run('dd', 'if=/dev/urandom', `of=${first.device}`, 'bs=440', 'count=1', 'conv=notrunc', 'status=none');
  run('mkfs.vfat', first.partition(15));
  run(`mkfs.${fs}`, '-q', first.partition(1));
  first.inside(
    1,
    `echo still there >file
    mkdir -p boot/grub boot/efi etc usr/sbin usr/share/initramfs-tools/hooks
    touch usr/sbin/mdadm usr/share/initramfs-tools/hooks/mdadm
    chmod +x usr/sbin/mdadm
    echo 'linux /boot/vmlinuz-1 root=UUID=1 ro' >boot/grub/grub.cfg
    echo 'PARTUUID=1-2 / ${fs} rw,discard 0 1' >etc/fstab
    echo 'PARTUUID=1-3 /boot/efi vfat umask=0077 0 0' >>etc/fstab
    ${script}`,
  );
  const ramdisk = onLoopDisk(t, first, { root_partition: '1', root_fs: fs });
  ramdisk.put('run/roles', `${ramdisk.read('run/roles')}mirror ${second.device.replace('/dev/', '')}\n`);
  ramdisk.put('bin/mdadm', MDADM);
  ramdisk.put('bin/modprobe', '#!/bin/sh\n');
  for (const program of ['mdadm', 'modprobe']) chmodSync(ramdisk.path(`bin/${program}`), 0o755);
  t.teardown(() => ramdisk.shell('unmount_all; stop_mirror'));
  return { ramdisk, first, second };
}

/** Numbers, places and kinds of its partitions; identifiers of the disk and of each. */
function tableOf({ device }: LoopDisk): { places: string[]; ids: string[] } {
  const dump = run('sfdisk', '--dump', device);
  const lines = dump.split('\n').filter((line) => line.startsWith(device));
  const ids = [...dump.matchAll(/(?:label-id: |uuid=)([0-9A-F-]+)/g)].map(([, id = '']) => id);
  return { places: lines.map((line) => line.slice(device.length).replace(/uuid=[0-9A-F-]+/, '')), ids };
}
