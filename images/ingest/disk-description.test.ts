import { readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';

import { test } from 'tap';

import type { ErrorCode } from '../../appliance/kernel/errors.ts';
import { crc32c } from './crc32c.ts';
import type { RootFileSystem } from './disk.fixture.ts';
import {
  diskToolsMissing,
  makeDisk,
  makeEsp,
  makeFileSystem,
  partition,
  place,
  resign,
  write,
} from './disk.fixture.ts';
import { describeDisk } from './disk-description.ts';
import { withDiskBytes } from './disk-bytes.ts';
import { scratch } from './qemu-img.fixture.ts';

const skip = diskToolsMissing() ?? false;
const MIB = 1024 ** 2;
/** Where sfdisk puts the entries of a GPT; 128 bytes each. */
const ENTRIES = 1024;

for (const root of ['ext4', 'xfs', 'btrfs'] as const) {
  void test(`a disk with GPT and ${root} is described: both firmwares, and its root`, { skip }, async (t) => {
    const file = scratch(t)('disk');
    makeDisk(file, 'gpt', root);
    const disk = await describe(file);
    t.match(disk, {
      table: 'gpt',
      firmware: ['bios', 'uefi'],
      bytes: statSync(file).size,
      partitions: [
        { number: 1, bytes: MIB, holds: 'bios-boot' },
        { number: 2, bytes: 2 * MIB, holds: 'fat' },
        { number: 3, holds: root },
      ],
      root: { partition: 3, fileSystem: root, uuid: /^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/, isLast: true },
    });
    t.equal(disk.root.hasMdadm, root === 'ext4' ? false : undefined, 'mdadm is looked for where that is possible');
  });
}

void test('a disk with MBR is described: BIOS, and its root', { skip }, async (t) => {
  const file = scratch(t)('disk');
  makeDisk(file, 'mbr');
  t.match(await describe(file), { table: 'mbr', firmware: ['bios'], root: { partition: 1, fileSystem: 'ext4' } });
});

void test('a root in a logical partition is found, and counted as Linux counts', { skip }, async (t) => {
  const file = scratch(t)('disk');
  writeFileSync(file, '');
  truncateSync(file, 40 * MIB);
  partition(file, [
    'label: dos',
    'start=1MiB, size=1MiB, type=82',
    'start=2MiB, size=37MiB, type=E',
    'start=3MiB, size=8MiB, type=83',
    'start=12MiB, size=20MiB, type=83',
  ]);
  write(file, 0, Buffer.from([0xeb]));
  place(file, 12 * MIB, 20 * MIB, (part) => makeFileSystem(part, 'ext4'));
  t.match((await describe(file)).root, { partition: 6, isLast: true });
});

void test('a root that others follow is said to be in their way', { skip }, async (t) => {
  const file = scratch(t)('disk');
  writeFileSync(file, '');
  truncateSync(file, 24 * MIB);
  // As Debian's own cloud images number theirs: root is 1 and last on the disk.
  const cloud = [
    'label: gpt',
    '1: start=8MiB, size=8MiB, type=L',
    '14: start=1MiB, size=1MiB, type=21686148-6449-6E6F-744E-656564454649',
    '15: start=2MiB, size=2MiB, type=U',
  ];
  partition(file, cloud);
  place(file, 8 * MIB, 8 * MIB, (part) => makeFileSystem(part, 'ext4'));
  place(file, 2 * MIB, 2 * MIB, makeEsp);
  t.match(await describe(file), { firmware: ['uefi'], root: { partition: 1, isLast: true } });
  partition(file, [...cloud, '16: start=17MiB, size=2MiB, type=L']);
  t.match((await describe(file)).root, { partition: 1, isLast: false });
});

void test(
  'which of several partitions is the root is said by the table or the sender, and never guessed',
  { skip },
  async (t) => {
    const file = scratch(t)('disk');
    makeDisk(file);
    // /boot, as Fedora and Ubuntu have it, and one without a word.
    for (const [type, other] of [
      ['BC13C2FF-59E6-4262-A352-B275FD6F7172', 3],
      ['L', undefined],
    ] as const) {
      truncateSync(file, 40 * MIB);
      partition(file, [
        'label: gpt',
        'start=1MiB, size=1MiB, type=21686148-6449-6E6F-744E-656564454649',
        'start=2MiB, size=2MiB, type=U',
        'start=4MiB, size=16MiB, type=L',
        `start=24MiB, size=8MiB, type=${type}`,
      ]);
      place(file, 24 * MIB, 8 * MIB, (part) => makeFileSystem(part, 'ext4'));
      if (other === undefined) {
        await t.rejects(describe(file), { code: 'image.not-bootable', message: /partitions 3, 4 could be its root/ });
        t.equal((await describe(file, 4)).root.partition, 4, 'as the sender says');
        await t.rejects(describe(file, 2), { code: 'image.not-bootable' }, 'which must be one that can be a root');
      } else {
        t.equal((await describe(file)).root.partition, other);
      }
    }
  },
);

const noRoots: readonly RootFileSystem[] = ['ext3', 'swap'];
for (const root of noRoots) {
  void test(`a disk whose only file system is ${root} has no root`, { skip }, async (t) => {
    const file = scratch(t)('disk');
    makeDisk(file, 'gpt', root);
    await t.rejects(describe(file), { code: 'image.not-bootable', message: /No root file system/ });
  });
}

const wrong: readonly {
  title: string;
  table?: 'mbr';
  change: (file: string) => void;
  code: ErrorCode;
  says: RegExp;
}[] = [
  {
    title: 'no table',
    change: (file) => write(file, 510, Buffer.alloc(2)),
    code: 'image.not-bootable',
    says: /no partition table/,
  },
  {
    title: 'a boot record that does not protect its GPT',
    change: (file) => write(file, 450, Buffer.from([0x83])),
    code: 'image.partitions',
    says: /does not protect/,
  },
  {
    title: 'two tables at once',
    change: (file) => write(file, 462, Buffer.from('80000000830000000008000000080000', 'hex')),
    code: 'image.partitions',
    says: /hybrid/,
  },
  {
    title: 'a damaged first header',
    change: (file) => flip(file, 512 + 60),
    code: 'image.partitions',
    says: /damaged first header/,
  },
  {
    title: 'damaged entries',
    change: (file) => write(file, ENTRIES + 60, Buffer.from('x')),
    code: 'image.partitions',
    says: /damaged entries/,
  },
  {
    title: 'a damaged copy',
    change: (file) => flip(file, statSync(file).size - 512 + 60),
    code: 'image.partitions',
    says: /damaged second header/,
  },
  {
    title: 'an end that was cut off',
    change: (file) => truncateSync(file, statSync(file).size - MIB),
    code: 'image.partitions',
    says: /cut short/,
  },
  {
    title: 'a partition beyond the disk',
    change: (file) =>
      resign(file, (disk) => both(disk, (entries) => entries.writeBigUInt64LE(2n ** 33n, 2 * 128 + 40))),
    code: 'image.partitions',
    says: /partition 3 is at/,
  },
  {
    title: 'a table that lets partitions reach beyond the disk',
    change: (file) => resign(file, (disk) => disk.writeBigUInt64LE(2n ** 40n, 512 + 48)),
    code: 'image.partitions',
    says: /overlap the table/,
  },
  {
    title: 'a partition in sectors that no disk has',
    change: (file) =>
      resign(file, (disk) => both(disk, (entries) => entries.writeBigUInt64LE(2n ** 63n, 2 * 128 + 40))),
    code: 'image.partitions',
    says: /speaks of sector/,
  },
  {
    title: 'partitions that overlap',
    change: (file) => resign(file, (disk) => both(disk, (entries) => entries.writeBigUInt64LE(4096n, 2 * 128 + 32))),
    code: 'image.partitions',
    says: /partitions 2 and 3 overlap/,
  },
  {
    title: 'a partition that ends before it begins',
    change: (file) => resign(file, (disk) => both(disk, (entries) => entries.writeBigUInt64LE(2n, 2 * 128 + 40))),
    code: 'image.partitions',
    says: /before it begins/,
  },
  {
    title: 'a copy that says another thing',
    change: (file) => resign(file, (disk) => disk.writeBigUInt64LE(5000n, disk.length - 512 - 128 * 128 + 40)),
    code: 'image.partitions',
    says: /differ/,
  },
  {
    title: 'room for a million partitions',
    change: (file) => resign(file, (disk) => disk.writeUInt32LE(1_000_000, 512 + 80)),
    code: 'image.partitions',
    says: /room for 1000000/,
  },
  {
    title: 'a root file system longer than its partition',
    change: enlargeExt4,
    code: 'image.file-system',
    says: /in a partition of/,
  },
  {
    title: 'a root file system that is damaged',
    change: (file) => write(file, 4 * MIB + 1024 + 0x70, Buffer.from('xxxx')),
    code: 'image.file-system',
    says: /damaged superblock/,
  },
  {
    title: 'neither loader nor boot code',
    change: (file) => {
      write(file, 0, Buffer.alloc(2));
      write(file, 2 * MIB, Buffer.alloc(512));
    },
    code: 'image.not-bootable',
    says: /No firmware/,
  },
  {
    title: 'no boot code',
    table: 'mbr',
    change: (file) => write(file, 0, Buffer.alloc(2)),
    code: 'image.not-bootable',
    says: /No firmware/,
  },
  {
    title: 'a partition beyond the disk',
    table: 'mbr',
    change: (file) => write(file, 446 + 12, Buffer.from([0, 0, 0, 0x7f])),
    code: 'image.partitions',
    says: /partition 1 is at/,
  },
  {
    title: 'a boot record that is that of a file system',
    table: 'mbr',
    change: (file) => write(file, 446, Buffer.from('Missing operating system')),
    code: 'image.partitions',
    says: /file system/,
  },
  {
    title: 'logical partitions in a circle',
    table: 'mbr',
    change: circle,
    code: 'image.partitions',
    says: /without end|overlap/,
  },
];
for (const { title, table, change, code, says } of wrong) {
  void test(`a disk (${table ?? 'gpt'}) with ${title} is refused as ${code}`, { skip }, async (t) => {
    const file = scratch(t)('disk');
    makeDisk(file, table);
    change(file);
    await t.rejects(describe(file), { code, message: says });
  });
}

void test(
  'without a loader in its ESP a disk starts by BIOS alone; without boot code by UEFI alone',
  { skip },
  async (t) => {
    const path = scratch(t);
    makeDisk(path('bios'));
    place(path('bios'), 2 * MIB, 2 * MIB, (part) => makeEmptyEsp(part));
    t.same((await describe(path('bios'))).firmware, ['bios']);
    makeDisk(path('uefi'));
    write(path('uefi'), MIB, Buffer.alloc(4));
    t.same((await describe(path('uefi'))).firmware, ['uefi']);
  },
);

void test('each file system is held against its checksum and the size of its partition', { skip }, async (t) => {
  // Their labels, which are empty.
  for (const [root, label] of [
    ['xfs', 108],
    ['btrfs', 64 * 1024 + 0x12b],
  ] as const) {
    const file = scratch(t)('disk');
    makeDisk(file, 'gpt', root);
    write(file, 4 * MIB + label, Buffer.from('x'));
    await t.rejects(describe(file), { code: 'image.file-system', message: /damaged superblock/ }, root);
  }
});

void test('what can be no root here is named: LVM, LUKS, RAID', { skip }, async (t) => {
  const file = scratch(t)('disk');
  const signs = [
    ['lvm', 512, 'LABELONE'],
    ['luks', 0, 'LUKS\xba\xbe'],
    ['raid', 4096, '\xfc\x4e\x2b\xa9'],
  ] as const;
  for (const [kind, at, magic] of signs) {
    makeDisk(file);
    place(file, 4 * MIB, 16 * MIB, () => undefined);
    write(file, 4 * MIB, Buffer.alloc(8192));
    write(file, 4 * MIB + at, Buffer.from(magic, 'latin1'));
    await t.rejects(describe(file), { code: 'image.not-bootable', message: new RegExp(`3 ${kind}`) });
  }
});

function describe(file: string, rootPartition?: number) {
  return withDiskBytes(file, (bytes) => describeDisk(bytes, rootPartition));
}

/** What stands there may be random: it is another byte afterwards, whatever it was. */
function flip(file: string, at: number): void {
  const byte = readFileSync(file)[at] ?? 0;
  write(file, at, Buffer.from([byte ^ 0xff]));
}

/** The entries of both tables. */
function both(disk: Buffer, change: (entries: Buffer) => void): void {
  change(disk.subarray(ENTRIES));
  change(disk.subarray(disk.length - 512 - 128 * 128));
}

/** By a block count of 2^24, under a right checksum. */
function enlargeExt4(file: string): void {
  const superblock = readFileSync(file).subarray(4 * MIB + 1024, 4 * MIB + 2048);
  superblock.writeUInt32LE(2 ** 24, 4);
  superblock.writeUInt32LE(~crc32c(superblock.subarray(0, 0x3fc)) >>> 0, 0x3fc);
  write(file, 4 * MIB + 1024, superblock);
}

function makeEmptyEsp(part: string): void {
  makeEsp(part);
  const content = readFileSync(part);
  const at = content.indexOf('BOOTX64 EFI');
  content.write('OTHER   EFI', at);
  writeFileSync(part, content);
}

function circle(file: string): void {
  write(file, 446 + 4, Buffer.from([0x05]));
  const record = Buffer.alloc(512);
  record.writeUInt16LE(0xaa55, 510);
  record.write('00000000830000000100000001000000', 446, 'hex');
  record.write('00000000050000000000000001000000', 462, 'hex');
  write(file, MIB, record);
}
