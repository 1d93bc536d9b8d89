import { mkdirSync } from 'node:fs';

import { test } from 'tap';
import type { Test } from 'tap';

import type { FakeRamdisk } from './deploy.fixture.ts';
import { fakeRamdisk } from './deploy.fixture.ts';

const GB = 1_000_000_000;

test('the one disk that the rule describes is chosen, whatever else there is', async (t) => {
  const ramdisk = withDisks(t);
  for (const [rule, expected] of [
    [{ disk_min_bytes: 900 * GB, disk_type: 'nvme' }, '/dev/nvme0n1'],
    [{ disk_min_bytes: GB, disk_max_bytes: 200 * GB }, '/dev/sdb'],
    [{ disk_min_bytes: 0, disk_serial: 'WD-99 X' }, '/dev/sda'],
    [{ disk_min_bytes: 0, disk_type: 'hdd' }, '/dev/sda'],
  ] as const) {
    order(ramdisk, rule);
    t.equal(await ramdisk.stage('disk'), undefined, JSON.stringify(rule));
    t.equal(ramdisk.read('run/disk'), `${expected}\n`);
  }
  t.match(ramdisk.read('run/facts'), /^disk=sda\ndisk_bytes=2000000000000\ndisk_serial=WD-99 X\n$/);
});

test('a rule that more than one disk matches stops with all candidates', async (t) => {
  const ramdisk = withDisks(t);
  order(ramdisk, { disk_min_bytes: 100 * GB });
  const failure = await ramdisk.stage('disk');
  t.equal(failure?.code, 'boot.disk-rule');
  t.match(failure?.reason, /more than one disk matches/);
  t.match(failure?.reason, /nvme0n1 \(\d+ bytes, nvme, serial S1\); sda .*; sdb .*serial V7/);
});

test('a rule that no disk matches stops with all candidates', async (t) => {
  const ramdisk = withDisks(t);
  order(ramdisk, { disk_min_bytes: 0, disk_serial: 'none such' });
  const failure = await ramdisk.stage('disk');
  t.equal(failure?.code, 'boot.disk-rule');
  t.match(failure?.reason, /no disk matches.*serial none such.*nvme0n1 .*; sda .*; sdb/);
});

test('removable, read-only, hidden, virtual and empty disks are no disks', async (t) => {
  const ramdisk = withDisks(t);
  disk(ramdisk, 'sdc', { bytes: 64 * GB, files: { removable: '1' } });
  disk(ramdisk, 'sdd', { bytes: 64 * GB, files: { ro: '1' } });
  disk(ramdisk, 'sde', { bytes: 0 });
  disk(ramdisk, 'nvme0c0n1', { bytes: 64 * GB, files: { hidden: '1' } });
  disk(ramdisk, 'loop0', { bytes: 64 * GB });
  ramdisk.put('sys/block/dm-0/size', '99999999');
  t.equal(await ramdisk.shell('disks | tr "\\n" " "'), 'nvme0n1 sda sdb ');
});

test('a rule that is not understood touches no disk', async (t) => {
  const ramdisk = withDisks(t);
  for (const rule of [{}, { disk_min_bytes: '10GB' }, { disk_min_bytes: 0, disk_type: 'tape' }]) {
    order(ramdisk, rule);
    t.equal((await ramdisk.stage('disk'))?.code, 'boot.protocol', JSON.stringify(rule));
  }
});

test('a partition is named as the kernel names it', async (t) => {
  const script = 'partition /dev/sda 3; partition /dev/nvme0n1 3; partition /dev/vda 12';
  t.equal(await fakeRamdisk(t).shell(script), '/dev/sda3\n/dev/nvme0n1p3\n/dev/vda12\n');
});

function withDisks(t: Test): FakeRamdisk {
  const ramdisk = fakeRamdisk(t);
  disk(ramdisk, 'nvme0n1', { bytes: 960 * GB, files: { 'device/serial': 'S1        ' } });
  // The serial number of a SCSI disk comes in VPD page 0x80, behind four bytes of header.
  disk(ramdisk, 'sda', {
    bytes: 2000 * GB,
    files: { 'device/vpd_pg80': '\0\x80\0\x08  WD-99 X', 'queue/rotational': '1' },
  });
  disk(ramdisk, 'sdb', { bytes: 120 * GB, files: { serial: 'V|7\u0007' } });
  return ramdisk;
}

function disk(ramdisk: FakeRamdisk, name: string, is: { bytes: number; files?: Record<string, string> }): void {
  const files = {
    size: String(Math.floor(is.bytes / 512)),
    removable: '0',
    ro: '0',
    'queue/rotational': '0',
    ...is.files,
  };
  mkdirSync(ramdisk.path(`sys/block/${name}/device`), { recursive: true });
  for (const [file, content] of Object.entries(files)) ramdisk.put(`sys/block/${name}/${file}`, `${content}\n`);
}

function order(ramdisk: FakeRamdisk, rule: Record<string, string | number>): void {
  ramdisk.put(
    'run/order',
    Object.entries(rule)
      .map(([name, value]) => `${name}=${value}\n`)
      .join(''),
  );
}
