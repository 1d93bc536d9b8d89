import { mkdirSync, rmSync } from 'node:fs';

import { test } from 'tap';
import type { Test } from 'tap';

import { draw } from '../../appliance/kernel/seeded.ts';
import type { Disk, DiskLayout, DiskRole, DiskRule } from '../../scheduler/disk-plan.ts';
import { diskRoles, planDisks } from '../../scheduler/disk-plan.ts';
import type { FakeRamdisk } from './deploy.fixture.ts';
import { fakeRamdisk } from './deploy.fixture.ts';

const GB = 1_000_000_000;

// No disk may still come.
const AT_ONCE = 'wait_until() { shift 2; "$@"; }';

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
  t.match(failure?.reason, /for root must match 1 disk, and 3 do: size/);
  t.match(failure?.reason, /nvme0n1 \(\d+ bytes, nvme, serial S1\); sda .*; sdb .*serial V7/);
});

test('a rule that no disk matches stops with all candidates, once they had the time to come', async (t) => {
  const ramdisk = withDisks(t);
  order(ramdisk, { disk_min_bytes: 0, disk_serial: 'none such' });
  const looks =
    'wait_until() { for look in $(seq "$1"); do if "$3"; then return; fi; done; echo "$look looks" >&2; return 1; }';
  await t.rejects(
    ramdisk.shell(`${looks}; give_roles() { echo nothing >"$RUN/unfit"; return 1; }; stage_disk`),
    /30 looks/,
  );
  await t.rejects(ramdisk.shell(`${AT_ONCE}; stage_disk`), {
    message: /boot.disk-rule for root must match 1 disk, and 0 do: .*serial none such;.*nvme0n1 .*; sda .*; sdb/,
  });
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

test('a machine with more disks has one for each role of the order, and none for two', async (t) => {
  const ramdisk = withDisks(t);
  const root = { disk_min_bytes: 0, disk_type: 'nvme' };
  const hdd = { data1_min_bytes: GB, data1_type: 'hdd' };
  const asked = {
    data1_fs: 'ext4',
    data1_label: 'a',
    data1_mount: '/a',
    data2_fs: 'ext4',
    data2_label: 'b',
    data2_mount: '/b',
  };
  order(ramdisk, { ...root, data_disks: 2, ...hdd, data2_min_bytes: 0, ...asked });
  t.equal(await ramdisk.stage('disk'), undefined);
  t.equal(ramdisk.read('run/roles'), 'root nvme0n1\ndata1 sda\ndata2 sdb\n');
  t.match(ramdisk.read('run/facts'), /^disk=nvme0n1\n.*\ndata1=sda\ndata2=sdb\n$/s);

  order(ramdisk, { ...root, data_disks: 1, data1_min_bytes: 0, data1_serial: 'S1', ...asked });
  const taken = /boot.disk-rule for data1 must match 1 disk, and 0 do: .*serial S1; found: nvme0n1/;
  await t.rejects(ramdisk.shell(`${AT_ONCE}; stage_disk`), { message: taken });
  order(ramdisk, { ...root, data_disks: 1, data1_min_bytes: 0, ...asked });
  t.match(await ramdisk.stage('disk'), { code: 'boot.disk-rule', reason: /^for data1 must match 1 disk, and 2 do/ });
  order(ramdisk, { ...root, data_disks: 2, ...hdd });
  t.match(await ramdisk.stage('disk'), { code: 'boot.protocol', reason: /no acceptable data2_min_bytes/ });
});

test('what an order wants of data disks and swap is understood before anything is written, or nothing is', async (t) => {
  const ramdisk = withDisks(t);
  const root = { disk_min_bytes: 0, disk_type: 'nvme', data_disks: 1, data1_min_bytes: GB, data1_type: 'hdd' };
  const good = { ...root, data1_fs: 'xfs', data1_label: 'data', data1_mount: '/srv/data' };
  order(ramdisk, { ...good, swap_mib: 2048 });
  t.equal(await ramdisk.stage('disk'), undefined);
  t.same([ramdisk.read('run/data'), ramdisk.read('run/swap')], ['1 xfs data /srv/data\n', '2048\n']);
  for (const bad of [
    { data1_mount: '/srv/../etc' },
    { data1_mount: '/srv /etc' },
    { data1_mount: 'srv' },
    { data1_label: 'a b' },
    { data1_fs: 'btrfs' },
    { swap_mib: 0 },
  ]) {
    order(ramdisk, { ...good, ...bad });
    t.equal((await ramdisk.stage('disk'))?.code, 'boot.protocol', JSON.stringify(bad));
  }
});

test('on any machine the ramdisk finds the disks that were planned, or refuses as the plan did', async (t) => {
  const random = seeded('disks');
  const ramdisk = fakeRamdisk(t);
  for (let round = 0; round < 20; round += 1) {
    rmSync(ramdisk.path('sys'), { recursive: true, force: true });
    const disks = Array.from({ length: 1 + random(4) }, (_, index): Disk => {
      const type = (['ssd', 'hdd'] as const)[random(2)]!;
      return { name: `sd${'abcde'[index]!}`, bytes: (1 + random(3)) * 512 * 1024 ** 3, type, serial: `S${random(4)}` };
    });
    for (const { name, bytes, type, serial } of disks) {
      disk(ramdisk, name, { bytes, files: { serial, 'queue/rotational': type === 'hdd' ? '1' : '0' } });
    }
    const rule = (): DiskRule => ({
      minBytes: random(2) * 1024 ** 4,
      ...(random(2) === 0 ? {} : { type: (['ssd', 'hdd'] as const)[random(2)]! }),
      ...(random(3) > 0 ? {} : { serial: `S${random(4)}` }),
    });
    const data = Array.from(
      { length: random(3) },
      () => ({ disk: rule(), mount: '/srv', fs: 'ext4', label: 'srv' }) as const,
    );
    const layout: DiskLayout = { data, ...(random(2) === 0 ? {} : { root: { minBytes: 0, mirror: rule() } }) };
    const machineRule = rule();

    const plan = planDisks({ layout, machineRule, disks });
    order(ramdisk, orderOf(diskRoles(layout, machineRule)));
    const found = ramdisk.shell(`${AT_ONCE}; stage_disk`).catch(String);
    const what = JSON.stringify({ disks, machineRule, layout });
    t.match(await found, plan.kind === 'plan' ? /^$/ : /FAIL boot\.disk-rule for/, what);
    if (plan.kind === 'refused') continue;
    const lines = [
      `root ${plan.root.name}`,
      ...(plan.mirror === undefined ? [] : [`mirror ${plan.mirror.name}`]),
      ...plan.data.map(({ name }, index) => `data${index + 1} ${name}`),
    ];
    t.equal(ramdisk.read('run/roles'), lines.map((line) => `${line}\n`).join(''), what);
  }
});

test('a partition is named as the kernel names it', async (t) => {
  const script = 'partition /dev/sda 3; partition /dev/nvme0n1 3; partition /dev/vda 12';
  t.equal(await fakeRamdisk(t).shell(script), '/dev/sda3\n/dev/nvme0n1p3\n/dev/vda12\n');
});

/** As `appliance/machines/order-lines.ts` writes roles. */
function orderOf(roles: readonly DiskRole[]): Record<string, string | number> {
  const lines = roles.flatMap(({ role, rule }) => {
    const prefix = role === 'root' ? 'disk' : role;
    const { minBytes = 0, maxBytes, serial, type } = rule ?? {};
    const values = { min_bytes: minBytes, max_bytes: maxBytes, serial, type };
    const data = !role.startsWith('data') ? {} : { fs: 'ext4', label: 'data', mount: '/srv' };
    return Object.entries({ ...values, ...data }).flatMap(([name, value]) =>
      value === undefined ? [] : [[`${prefix}_${name}`, value]],
    );
  });
  const dataDisks = roles.filter(({ role }) => role.startsWith('data')).length;
  const ours = { root_fs: 'ext4', kernel_args: 'quiet', ...(dataDisks > 0 && { data_disks: dataDisks }) };
  return { ...ours, ...(Object.fromEntries(lines) as Record<string, string>) };
}

/** `random(n)`: 0 to n - 1. */
function seeded(seed: string): (below: number) => number {
  let drawn = 0;
  return (below) => Math.floor(draw(seed, (drawn += 1)) * below);
}

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
