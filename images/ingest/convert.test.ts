import {
  closeSync,
  existsSync,
  openSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';

import { test } from 'tap';

import { convertToRaw } from './convert.ts';
import type { DiskFormat } from './disk-header.ts';
import { readHeader } from './format.ts';
import { withDiskBytes } from './disk-bytes.ts';
import { qemuImg, qemuImgMissing, scratch } from './qemu-img.fixture.ts';
import { sandboxMissing } from './sandbox.fixture.ts';

const skip = qemuImgMissing() ?? (await sandboxMissing()) ?? false;
const MIB = 1024 ** 2;
const NEVER = new AbortController().signal;

const made: readonly { format: DiskFormat; options: string[] }[] = [
  { format: 'qcow2', options: [] },
  { format: 'qcow2', options: ['-c'] },
  { format: 'vmdk', options: [] },
  { format: 'vmdk', options: ['-o', 'subformat=streamOptimized'] },
  { format: 'vhdx', options: [] },
  { format: 'raw', options: [] },
];
for (const { format, options } of made) {
  void test(`a ${format} (${options.join(' ')}) becomes the raw disk it was made of`, { skip }, async (t) => {
    const path = scratch(t);
    const disk = makeDisk(path('disk'));
    qemuImg('convert', '-f', 'raw', '-O', format, ...options, path('disk'), path('image'));
    await convert(path('image'), format, path('raw'));
    t.ok(readFileSync(path('raw')).equals(disk));
    t.ok(statSync(path('raw')).blocks * 512 < 2 * MIB, 'its zeros are holes');
  });
}

void test('what an image names is out of reach of the program that converts it', { skip }, async (t) => {
  const path = scratch(t);
  writeFileSync(path('secret'), Buffer.alloc(MIB, 'a secret of the host. '));
  for (const secret of [path('secret'), '/etc/passwd']) {
    for (const { title, file, format } of [...hostile(path, secret)]) {
      // The peer in the open reads it: so the image does what it is said to do.
      qemuImg('convert', '-f', format, '-O', 'raw', file, path('leak'));
      const words = readFileSync(secret).subarray(0, 64);
      t.ok(readFileSync(path('leak')).includes(words), `${title}: qemu-img alone leaks ${secret}`);
      await t.rejects(headerOf(file, format), { code: 'image.external' }, `${title}: its header is refused`);
      // Were the check of the header passed by, the wall behind it stands.
      const header = { format, variant: '', virtualSize: MIB } as const;
      const raw = path('raw');
      const outcome = await convertToRaw({ file, header, rawFile: raw, signal: NEVER }).then(
        () => 'a disk without it',
        String,
      );
      t.match(outcome, /a disk without it|No such file or directory/, `${title}: ${outcome}`);
      t.notOk(existsSync(raw) && readFileSync(raw).includes(words), `${title}: the sandbox holds`);
      rmSync(raw, { force: true });
    }
  }
});

void test('a disk that lies about itself leaves nothing, and says why', { skip }, async (t) => {
  const path = scratch(t);
  makeDisk(path('disk'));
  qemuImg('convert', '-f', 'raw', '-O', 'qcow2', path('disk'), path('image'));
  // The place of its first table of clusters.
  const table = Number(readFileSync(path('image')).readBigUInt64BE(40));
  const file = openSync(path('image'), 'r+');
  writeSync(file, Buffer.alloc(8, 0xff), 0, 8, table);
  closeSync(file);
  const before = readdirSync(path('.'));
  await t.rejects(convert(path('image'), 'qcow2', path('raw')), {
    code: 'image.invalid',
    message: /qemu-img ended with 1/,
  });
  t.same(readdirSync(path('.')), before);
});

void test('a disk that is larger than its header told is stopped at that size', { skip }, async (t) => {
  const path = scratch(t);
  makeDisk(path('disk'));
  const header = { format: 'raw', variant: 'raw', virtualSize: MIB } as const;
  const conversion = convertToRaw({ file: path('disk'), header, rawFile: path('raw'), signal: NEVER });
  await t.rejects(conversion, { code: 'image.invalid' });
  t.notOk(existsSync(path('raw')));
});

void test('a disk that would fill the store is refused before anything is written', { skip }, async (t) => {
  const path = scratch(t);
  const header = { format: 'qcow2', variant: 'version 3', virtualSize: 2 ** 52 } as const;
  const conversion = convertToRaw({ file: path('image'), header, rawFile: path('raw'), signal: NEVER });
  await t.rejects(conversion, { code: 'image.store-full' });
  t.notOk(existsSync(path('raw')));
});

void test('a conversion that is cancelled leaves nothing', { skip }, async (t) => {
  const path = scratch(t);
  makeDisk(path('disk'));
  const header = { format: 'raw', variant: 'raw', virtualSize: 10 * MIB } as const;
  const abort = new AbortController();
  const conversion = convertToRaw({ file: path('disk'), header, rawFile: path('raw'), signal: abort.signal });
  abort.abort(new Error('nobody wants it'));
  await t.rejects(conversion, { message: 'nobody wants it' });
  t.notOk(existsSync(path('raw')));
});

void test('a file that lies where the disk should go is left alone', { skip }, async (t) => {
  const path = scratch(t);
  makeDisk(path('disk'));
  writeFileSync(path('raw'), 'mine');
  await t.rejects(convert(path('disk'), 'raw', path('raw')), { code: 'EEXIST' });
  t.equal(readFileSync(path('raw'), 'utf8'), 'mine');
});

function headerOf(file: string, format: DiskFormat) {
  return withDiskBytes(file, (bytes) => readHeader(bytes, format, 100 * MIB));
}

async function convert(file: string, format: DiskFormat, rawFile: string): Promise<void> {
  const header = await headerOf(file, format);
  await convertToRaw({ file, header, rawFile, signal: NEVER });
}

function makeDisk(path: string): Buffer {
  writeFileSync(path, Buffer.concat([Buffer.alloc(MIB), Buffer.from('words on a disk '.repeat(1000))]));
  truncateSync(path, 10 * MIB);
  return readFileSync(path);
}

/** Images whose only content is another file's. */
function* hostile(
  path: (name: string) => string,
  secret: string,
): Generator<{ title: string; file: string; format: DiskFormat }> {
  const qcow2 = path('backed.qcow2');
  qemuImg('create', '-q', '-f', 'qcow2', '-b', secret, '-F', 'raw', qcow2, '1M');
  yield { title: 'a backing file', file: qcow2, format: 'qcow2' };
  const data = path('data.qcow2');
  qemuImg('create', '-q', '-f', 'qcow2', '-o', `data_file=${path('own-data')},data_file_raw=on`, data, '1M');
  yield { title: 'an external data file', file: renamed(data, path('own-data'), secret), format: 'qcow2' };
  const vmdk = path('flat.vmdk');
  const sectors = Math.max(1, Math.floor(statSync(secret).size / 512));
  const extent = `RW ${sectors} FLAT "${secret}" 0`;
  const descriptor = [
    '# Disk DescriptorFile',
    'version=1',
    'CID=1',
    'parentCID=ffffffff',
    'createType="monolithicFlat"',
    extent,
  ];
  writeFileSync(vmdk, `${descriptor.join('\n')}\n`);
  yield { title: 'a flat extent', file: vmdk, format: 'vmdk' };
}

/** The name of the data file lies in a header extension, with its length before it. */
function renamed(file: string, from: string, to: string): string {
  const content = readFileSync(file);
  const at = content.indexOf(from);
  const tail = content.subarray(at + Math.ceil(from.length / 8) * 8, 4096);
  const name = Buffer.alloc(Math.ceil(to.length / 8) * 8);
  name.write(to);
  content.writeUInt32BE(to.length, at - 4);
  Buffer.concat([name, tail]).copy(content, at, 0, Math.min(name.length + tail.length, 4096 - at));
  writeFileSync(file, content);
  return file;
}
