import { readFileSync, truncateSync, writeFileSync } from 'node:fs';

import type { Test } from 'tap';
import { test } from 'tap';

import type { ErrorCode } from '../../appliance/kernel/errors.ts';
import { crc32c } from './crc32c.ts';
import type { DiskFormat, DiskHeader } from './disk-header.ts';
import { readHeader } from './format.ts';
import { withDiskBytes } from './disk-bytes.ts';
import { qemuImg, qemuImgMissing, scratch } from './qemu-img.fixture.ts';

const skip = qemuImgMissing() ?? false;
const MIB = 1024 ** 2;
const DISK = 10 * MIB;
const MOST = 1024 * MIB;

const honest: readonly { format: DiskFormat; options: string[]; variant: string }[] = [
  { format: 'qcow2', options: ['-o', 'compat=0.10'], variant: 'version 2' },
  { format: 'qcow2', options: ['-o', 'compat=1.1'], variant: 'version 3' },
  { format: 'qcow2', options: ['-o', 'cluster_size=512'], variant: 'version 3' },
  { format: 'qcow2', options: ['-o', 'cluster_size=2M,compression_type=zstd'], variant: 'version 3' },
  { format: 'qcow2', options: ['-o', 'extended_l2=on,cluster_size=128k'], variant: 'version 3' },
  { format: 'vmdk', options: [], variant: 'monolithicSparse' },
  { format: 'vmdk', options: ['-o', 'subformat=streamOptimized'], variant: 'streamOptimized' },
  { format: 'vhdx', options: [], variant: 'dynamic or fixed' },
  { format: 'vhdx', options: ['-o', 'subformat=fixed'], variant: 'dynamic or fixed' },
  { format: 'raw', options: [], variant: 'raw' },
];
for (const { format, options, variant } of honest) {
  void test(`a ${format} that qemu-img made (${options.join(' ')}) is read`, { skip }, async (t) => {
    const file = convertedDisk(t, format, options);
    t.same(await read(file, format), { format, variant, virtualSize: DISK });
  });
}

void test('a file of another format than the one declared is refused, and none is guessed', { skip }, async (t) => {
  const formats: readonly DiskFormat[] = ['raw', 'qcow2', 'vmdk', 'vhdx'];
  for (const made of formats) {
    const file = convertedDisk(t, made, []);
    for (const declared of formats) {
      if (made === declared) continue;
      await t.rejects(read(file, declared), { code: 'image.format' }, `${made} as ${declared}`);
    }
  }
  const path = scratch(t)('other');
  for (const magic of ['conectix', '\x28\xb5\x2f\xfd', '\x1f\x8b', '\xfd7zXZ\0', '# Disk DescriptorFile\n']) {
    writeFileSync(path, Buffer.concat([Buffer.from(magic, 'latin1'), Buffer.alloc(8192)]).subarray(0, 4096));
    await t.rejects(read(path, 'raw'), { code: 'image.format' }, JSON.stringify(magic));
  }
});

void test('a disk larger than what is taken is refused by its header alone', { skip }, async (t) => {
  for (const format of ['qcow2', 'vmdk', 'vhdx'] as const) {
    const file = scratch(t)('bomb');
    qemuImg('create', '-f', format, file, '2T');
    await t.rejects(read(file, format), { code: 'image.too-large' }, format);
  }
});

void test('what refers to other files is refused, as qemu-img itself makes it', { skip }, async (t) => {
  const path = scratch(t);
  writeFileSync(path('base.raw'), Buffer.alloc(MIB));
  const made: readonly { title: string; format: DiskFormat; args: string[]; code: ErrorCode }[] = [
    {
      title: 'a qcow2 on a backing file',
      format: 'qcow2',
      args: ['-b', '/etc/passwd', '-F', 'raw'],
      code: 'image.external',
    },
    {
      title: 'a qcow2 with an external data file',
      format: 'qcow2',
      args: ['-o', `data_file=${path('data')},data_file_raw=on`],
      code: 'image.external',
    },
    { title: 'a VMDK descriptor', format: 'vmdk', args: ['-o', 'subformat=monolithicFlat'], code: 'image.external' },
    {
      title: 'a VMDK in several files',
      format: 'vmdk',
      args: ['-o', 'subformat=twoGbMaxExtentSparse'],
      code: 'image.external',
    },
  ];
  for (const { title, format, args, code } of made) {
    const file = path(`${title.replaceAll(' ', '-')}.${format}`);
    qemuImg('create', '-f', format, ...args, file, '10M');
    await t.rejects(read(file, format), { code }, title);
  }
  const parent = path('parent.vmdk');
  qemuImg('create', '-f', 'vmdk', parent, '10M');
  qemuImg('create', '-f', 'vmdk', '-b', parent, '-F', 'vmdk', path('child.vmdk'));
  await t.rejects(read(path('child.vmdk'), 'vmdk'), { code: 'image.external' }, 'a VMDK on a parent');
  const snapshots = path('snapshots.qcow2');
  qemuImg('create', '-f', 'qcow2', snapshots, '10M');
  qemuImg('snapshot', '-c', 'before', snapshots);
  await t.rejects(read(snapshots, 'qcow2'), { code: 'image.unsupported' }, 'a qcow2 with snapshots');
});

const wrong: readonly {
  title: string;
  format: DiskFormat;
  options?: string[];
  change: (file: Buffer) => unknown;
  code: ErrorCode;
}[] = [
  { title: 'version 4', format: 'qcow2', change: (file) => file.writeUInt32BE(4, 4), code: 'image.invalid' },
  {
    title: 'clusters of 256 bytes',
    format: 'qcow2',
    change: (file) => file.writeUInt32BE(8, 20),
    code: 'image.invalid',
  },
  { title: 'clusters of 4 MiB', format: 'qcow2', change: (file) => file.writeUInt32BE(22, 20), code: 'image.invalid' },
  { title: 'LUKS', format: 'qcow2', change: (file) => file.writeUInt32BE(2, 32), code: 'image.encrypted' },
  { title: 'AES', format: 'qcow2', change: (file) => file.writeUInt32BE(1, 32), code: 'image.encrypted' },
  {
    title: 'a first-level table beyond the file',
    format: 'qcow2',
    change: (file) => file.writeBigUInt64BE(2n ** 40n, 40),
    code: 'image.invalid',
  },
  {
    title: 'a first-level table of 4 GiB',
    format: 'qcow2',
    change: (file) => file.writeUInt32BE(2 ** 29, 36),
    code: 'image.invalid',
  },
  {
    title: 'reference counts beyond the file',
    format: 'qcow2',
    change: (file) => file.writeBigUInt64BE(2n ** 62n, 48),
    code: 'image.invalid',
  },
  {
    title: 'a disk larger than its table',
    format: 'qcow2',
    change: (file) => file.writeBigUInt64BE(BigInt(900 * MIB), 24),
    code: 'image.invalid',
  },
  {
    title: 'a disk of 2^64 - 1 bytes',
    format: 'qcow2',
    change: (file) => file.writeBigUInt64BE(2n ** 64n - 1n, 24),
    code: 'image.invalid',
  },
  { title: 'the mark of damage', format: 'qcow2', change: (file) => file.writeUInt8(2, 79), code: 'image.invalid' },
  {
    title: 'a feature of the future',
    format: 'qcow2',
    change: (file) => file.writeUInt8(1, 72),
    code: 'image.unsupported',
  },
  {
    title: 'an extension that never ends',
    format: 'qcow2',
    change: (file) => file.writeUInt32BE(0x7fff_fff0, 0x74),
    code: 'image.invalid',
  },
  {
    title: 'the mark of a data file alone',
    format: 'qcow2',
    change: (file) => file.writeUInt8(4, 79),
    code: 'image.external',
  },
  {
    title: 'the data file as an extension alone',
    format: 'qcow2',
    change: (file) => file.writeUInt32BE(0x4441_5441, 0x70),
    code: 'image.external',
  },
  {
    title: 'a header without a disk',
    format: 'vmdk',
    change: (file) => file.writeBigUInt64LE(0n, 12),
    code: 'image.external',
  },
  {
    title: 'a capacity that its descriptor denies',
    format: 'vmdk',
    change: (file) => file.writeBigUInt64LE(99n, 12),
    code: 'image.invalid',
  },
  {
    title: 'line ends that were changed',
    format: 'vmdk',
    change: (file) => file.write('\n \n\n', 73),
    code: 'image.invalid',
  },
  {
    title: 'grains of three sectors',
    format: 'vmdk',
    change: (file) => file.writeBigUInt64LE(3n, 20),
    code: 'image.invalid',
  },
  {
    title: 'a directory beyond the file',
    format: 'vmdk',
    change: (file) => file.writeBigUInt64LE(2n ** 50n, 56),
    code: 'image.invalid',
  },
  {
    title: 'an extent by a path',
    format: 'vmdk',
    change: inDescriptor(/SPARSE "[^"\n]*"/, 'SPARSE "/etc/passwd"'),
    code: 'image.external',
  },
  { title: 'an extent that is flat', format: 'vmdk', change: inDescriptor(/SPARSE/, 'FLAT  '), code: 'image.invalid' },
  {
    title: 'an extent of another type',
    format: 'vmdk',
    change: inDescriptor(/SPARSE/, 'VMFSXX'),
    code: 'image.external',
  },
  {
    title: 'a parent',
    format: 'vmdk',
    change: inDescriptor(/parentCID=ffffffff/, 'parentCID=00000000'),
    code: 'image.external',
  },
  {
    title: 'a parent by its name',
    format: 'vmdk',
    change: inDescriptor(/ddb.geometry.heads/, 'parentFileNameHint'),
    code: 'image.external',
  },
  {
    title: 'a file of changes',
    format: 'vmdk',
    change: inDescriptor(/ddb.toolsVersion/, 'changeTrackPath '),
    code: 'image.external',
  },
  {
    title: 'no word of a parent',
    format: 'vmdk',
    change: inDescriptor(/CID=([0-9a-f]*)\nparentCID=/, 'CID=$1/etc/passwdCID='),
    code: 'image.invalid',
  },
  {
    title: 'two extents',
    format: 'vmdk',
    change: inDescriptor(/#DDB\n.*\n/, 'RW 1 SPARSE "b"\nRW 2 SPARSE "c"\n'),
    code: 'image.external',
  },
  {
    title: 'no footer where there must be one',
    format: 'vmdk',
    options: ['-o', 'subformat=streamOptimized'],
    change: (file) => file.writeBigUInt64LE(2n ** 64n - 1n, 56),
    code: 'image.invalid',
  },
  {
    title: 'damage in both headers',
    format: 'vhdx',
    change: (file) => file.fill(1, 65_600, 65_610).fill(1, 131_200, 131_210),
    code: 'image.invalid',
  },
  {
    title: 'damage in the region table',
    format: 'vhdx',
    change: (file) => file.fill(1, 192 * 1024 + 20, 192 * 1024 + 22),
    code: 'image.invalid',
  },
  {
    title: 'a region beyond the file',
    format: 'vhdx',
    change: (file) => inRegionTable(file, (table) => table.writeBigUInt64LE(2n ** 50n, 32)),
    code: 'image.invalid',
  },
  {
    title: 'a parent',
    format: 'vhdx',
    change: (file) => file.writeUInt32LE(2, metadataItem(file, '3767a1ca36fa434d') + 4),
    code: 'image.external',
  },
  {
    title: 'sectors of 4096 bytes',
    format: 'vhdx',
    change: (file) => file.writeUInt32LE(4096, metadataItem(file, '1dbf41816fa90947')),
    code: 'image.unsupported',
  },
  {
    title: 'blocks of 3 MiB',
    format: 'vhdx',
    change: (file) => file.writeUInt32LE(3 * MIB, metadataItem(file, '3767a1ca36fa434d')),
    code: 'image.invalid',
  },
  {
    title: 'a disk larger than its table',
    format: 'vhdx',
    change: (file) => file.writeBigUInt64LE(2n ** 46n, metadataItem(file, '2442a52f1bcd7648')),
    code: 'image.invalid',
  },
];
for (const { title, format, options = [], change, code } of wrong) {
  void test(`a ${format} with ${title} is refused as ${code}`, { skip }, async (t) => {
    const file = convertedDisk(t, format, options);
    const content = readFileSync(file);
    change(content);
    writeFileSync(file, content);
    await t.rejects(read(file, format), { code });
  });
}

void test('an image that was cut short is refused', { skip }, async (t) => {
  for (const format of ['qcow2', 'vmdk', 'vhdx'] as const) {
    for (const bytes of [600, 12_000]) {
      const file = convertedDisk(t, format, []);
      truncateSync(file, bytes);
      await t.rejects(read(file, format), { code: 'image.invalid' }, `${format} of ${bytes} bytes`);
    }
  }
  const file = convertedDisk(t, 'raw', []);
  truncateSync(file, 1000);
  await t.rejects(read(file, 'raw'), { code: 'image.invalid' }, 'half a sector');
});

void test('a streamed VMDK whose end says another size than its begin is refused', { skip }, async (t) => {
  const file = convertedDisk(t, 'vmdk', ['-o', 'subformat=streamOptimized']);
  const made = readFileSync(file);
  writeFileSync(
    file,
    withFooter(made, () => undefined),
  );
  t.equal((await read(file, 'vmdk')).virtualSize, DISK, 'with a footer that says the same');
  writeFileSync(
    file,
    withFooter(made, (footer) => footer.writeBigUInt64LE(1024n, 12)),
  );
  await t.rejects(read(file, 'vmdk'), { code: 'image.invalid', message: /another at its end/ });
});

function read(file: string, format: DiskFormat): Promise<DiskHeader> {
  return withDiskBytes(file, (bytes) => readHeader(bytes, format, MOST));
}

function convertedDisk(t: Test, format: DiskFormat, options: string[]): string {
  const path = scratch(t);
  writeFileSync(path('disk'), Buffer.concat([Buffer.alloc(MIB), Buffer.from('words on a disk')]));
  truncateSync(path('disk'), DISK);
  qemuImg('convert', '-f', 'raw', '-O', format, ...options, path('disk'), path('image'));
  return path('image');
}

/** Changes the text in place and pads it, so that nothing else moves. */
function inDescriptor(what: RegExp, by: string): (file: Buffer) => void {
  return (file) => {
    const [start, length] = [Number(file.readBigUInt64LE(28)) * 512, Number(file.readBigUInt64LE(36)) * 512];
    const text = file.toString('latin1', start, start + length).replace(/\0+$/, '');
    if (!what.test(text)) throw new Error(`the descriptor has no ${String(what)}`);
    file.fill(0, start, start + length).write(text.replace(what, by), start, 'latin1');
  };
}

/** As VMware writes it: the directory is at the end, the header does not know where. */
function withFooter(file: Buffer, change: (footer: Buffer) => void): Buffer {
  const footer = Buffer.from(file.subarray(0, 512));
  change(footer);
  const head = Buffer.from(file);
  head.writeBigUInt64LE(2n ** 64n - 1n, 56);
  const marker = Buffer.alloc(512);
  marker.writeUInt32LE(1, 0);
  marker.writeUInt32LE(3, 12);
  return Buffer.concat([head, marker, footer, Buffer.alloc(512)]);
}

function inRegionTable(file: Buffer, change: (table: Buffer) => void): void {
  const table = file.subarray(192 * 1024, 256 * 1024);
  change(table);
  table.writeUInt32LE(0, 4);
  table.writeUInt32LE(crc32c(table), 4);
}

function metadataItem(file: Buffer, id: string): number {
  const region = file.indexOf('metadata', MIB, 'latin1');
  const entry = file.indexOf(Buffer.from(id, 'hex'), region);
  return region + file.readUInt32LE(entry + 16);
}
