import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { zstdCompressSync } from 'node:zlib';

import { diskToolsMissing, makeDisk, resign } from '../../images/ingest/disk.fixture.ts';
import { qemuImg, qemuImgMissing, scratch } from '../../images/ingest/qemu-img.fixture.ts';
import { sandboxMissing } from '../../images/ingest/sandbox.fixture.ts';
import { tinyDisk } from '../../lab/disk/tiny-disk.ts';
import { eachStore, sqliteStore } from '../store/test-stores.ts';
import { codeOf } from './api.fixture.ts';
import { imageBench, part, sha256, url } from './images.fixture.ts';

const disk = tinyDisk();
const image = { name: 'debian', version: '12', format: 'raw', bytes: disk.length, sha256: sha256(disk) };

eachStore('a file that comes in parts becomes an image, and everything of it is told', async (t, store, { clock }) => {
  const { operator, ended, events } = await imageBench(t, store, clock);
  const begun = await operator.post('/images/uploads', { ...image, kernelArgs: 'quiet' });
  t.match(begun, { status: 201, body: { received: 0, bytes: disk.length, expiresAt: String } });
  const { id } = begun.body as { id: string };
  const path = `/images/uploads/${id}`;
  t.match(await part(operator, path, 0, disk.subarray(0, 1000)), {
    statusCode: 204,
    headers: { 'upload-offset': '1000' },
  });
  const { statusCode, headers, body } = await operator.app.inject({
    method: 'HEAD',
    url: url(path),
    headers: operator.headers,
  });
  t.match({ statusCode, headers }, { statusCode: 200, headers: { 'upload-offset': '1000', 'upload-length': '65536' } });
  t.equal(body, '');
  t.match(await operator.get(path), { status: 200, body: { received: 1000, name: 'debian' } });
  t.match(await operator.get('/images/uploads'), { body: { uploads: [{ id, received: 1000, tenant: null }] } });
  t.equal(codeOf(await operator.post(`${path}/complete`)), 'upload.incomplete');
  const elsewhere = await part(operator, path, 999, disk.subarray(999));
  t.match(elsewhere.json(), { error: { code: 'upload.offset', details: { offset: 1000 } } });
  t.equal((await part(operator, path, 1000, disk.subarray(1000))).statusCode, 204);

  const completed = await operator.post(`${path}/complete`);
  t.equal(completed.status, 202);
  const { import: made } = completed.body as { import: string };
  t.same((await operator.post(`${path}/complete`)).body, { import: made }, 'the same again is the same');
  t.match(await ended(made), { state: 'done', stage: null, image: String, error: null, endedAt: String });
  t.equal((await operator.get(path)).status, 404);
  t.match(await operator.get('/images'), {
    body: {
      images: [
        {
          ...{
            name: 'debian',
            version: '12',
            tenant: null,
            sha256: image.sha256,
            sourceFormat: 'raw',
          },
          ...{ rawBytes: disk.length, partitionTable: 'mbr', rootPartition: 1, rootFs: 'ext4', deprecatedAt: null },
        },
      ],
    },
  });
  t.match(await events(), ['image.upload-begun', 'image.import-begun', 'inventory.added']);
});

const skip = diskToolsMissing() ?? qemuImgMissing() ?? (await sandboxMissing());

sqliteStore(
  'what is no image that boots is refused with its reason, and leaves nothing',
  async (t, store, { clock }) => {
    if (skip !== undefined) {
      t.plan(0, skip);
      return;
    }
    const path = scratch(t);
    makeDisk(path('disk'));
    const { operator, send, ended, files } = await imageBench(t, store, clock, {
      images: { mostBytes: 64 * 1024 ** 2 },
    });
    const good = await send(operator, { name: 'good', format: 'raw', content: readFileSync(path('disk')) });
    t.match(await ended(good), { state: 'done' });
    const before = files();
    for (const [name, { format, content, code, sha256: lie }] of Object.entries(badImages(path))) {
      const id = await send(operator, { name, format, content, ...(lie !== undefined && { sha256: lie }) });
      const end = (await ended(id)) as { state: string; error: { code: string; message: string }; stage: string };
      t.match(end, { state: 'failed', stage: String, image: null, error: { code, message: /.{20}/ } }, name);
      t.notMatch(end.error.message, /root:/, 'and no file of the host is told');
      t.same(files(), before, `${name} leaves nothing`);
    }
    t.match(await operator.get('/images'), { body: { images: [{ name: 'good' }] } });
  },
);

/** One of each way to be wrong, and what is said of it. */
function badImages(path: (name: string) => string): Readonly<Record<string, BadImage>> {
  const disk = readFileSync(path('disk'));
  const qemu = (format: string, from: string, ...more: string[]) => {
    qemuImg('convert', '-f', 'raw', '-O', format, ...more, path(from), path('image'));
    const content = readFileSync(path('image'));
    rmSync(path('image'));
    return content;
  };
  const qcow2 = qemu('qcow2', 'disk');
  qemuImg('create', '-f', 'qcow2', '-F', 'raw', '-b', '/etc/passwd', '-u', path('backed'), '1M');
  const descriptor = [
    ...['# Disk DescriptorFile', 'version=1', 'CID=fffffffe', 'parentCID=ffffffff', 'createType="monolithicFlat"'],
    ...['RW 2048 FLAT "/etc/passwd" 0', ''],
  ];
  writeFileSync(path('beyond'), disk);
  resign(path('beyond'), (bytes) => bytes.writeBigUInt64LE(BigInt(disk.length), 512 + 2 * 512 + 40));
  qemuImg('create', '-f', 'qcow2', path('huge'), '2T');
  return {
    empty: { format: 'raw', content: Buffer.alloc(512), code: 'image.not-bootable' },
    'sector-short': { format: 'raw', content: disk.subarray(0, -1), code: 'image.invalid' },
    truncated: { format: 'qcow2', content: qcow2.subarray(0, qcow2.length / 2), code: 'image.partitions' },
    corrupt: { format: 'raw', content: Buffer.from(disk).fill(0xff, 512, 600), code: 'image.partitions' },
    'other-format': { format: 'raw', content: qcow2, code: 'image.format' },
    backed: { format: 'qcow2', content: readFileSync(path('backed')), code: 'image.external' },
    descriptor: { format: 'vmdk', content: Buffer.from(descriptor.join('\n')), code: 'image.external' },
    huge: { format: 'qcow2', content: readFileSync(path('huge')), code: 'image.too-large' },
    bomb: { format: 'raw+zstd', content: bomb(), code: 'image.too-large' },
    'gpt-beyond': { format: 'raw', content: readFileSync(path('beyond')), code: 'image.partitions' },
    digest: { format: 'raw', content: disk, sha256: 'ab'.repeat(32), code: 'image.digest' },
  };
}

interface BadImage {
  readonly format: string;
  readonly content: Buffer;
  readonly code: string;
  readonly sha256?: string;
}

/** 70 MB of zeros, in a few kilobytes. */
function bomb(): Buffer {
  return zstdCompressSync(Buffer.alloc(70_000_000));
}
