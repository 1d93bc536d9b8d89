import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';

import type { Test } from 'tap';

import { createIds } from '../appliance/kernel/ids.ts';
import type { ManualClock } from '../appliance/kernel/manual-clock.ts';
import type { Store } from '../appliance/store/store.ts';
import { eachStore } from '../appliance/store/test-stores.ts';
import { listImages } from './image-records.ts';
import { ImageStore } from './image-store.ts';
import type { Declaration } from './ingest/declaration.ts';
import { withDiskBytes } from './ingest/disk-bytes.ts';
import { describeDisk } from './ingest/disk-description.ts';
import { tinyDisk } from '../lab/disk/tiny-disk.ts';

const raw = Buffer.concat([tinyDisk(64 * 1024, randomBytes(64 * 1024)), Buffer.alloc(190_464)]);
const compressed = zstdCompressSync(raw);
const sha256 = digest(compressed);
const options = { signal: new AbortController().signal };
const image: Declaration = {
  ...{ tenantId: null, name: 'debian', version: '12', format: 'raw+zstd', sha256, kernelArgs: 'quiet' },
};

eachStore(
  'a compressed disk is frozen, and registered with both its sizes and both its digests',
  async (t, store, { clock }) => {
    const { images, files } = open(t, store, clock);
    const row = await images.add({ ...image, sha256: sha256.toUpperCase() }, Readable.from(inPieces(compressed)));
    t.match(row, { name: 'debian', source_sha256: sha256, raw_bytes: raw.length });
    const [map, whole] = [await images.frozen.map(row.sha256), await images.frozen.image(row.sha256)];
    t.equal(map?.bytes, row.map_bytes);
    const frozen = await buffer(Readable.from(whole!.read(0, whole!.bytes - 1)));
    t.equal(frozen.length, row.bytes);
    // Node's own zstd ends with the first frame: that is all but the seek table.
    t.ok(zstdDecompressSync(frozen).equals(raw));
    t.equal(files().filter((file) => file.startsWith('maps/')).length, 1);
    t.match(await listImages(store.read, undefined), [{ id: row.id }]);
  },
);

eachStore('a disk that ends within a sector ends with it', async (t, store, { clock }) => {
  const { images } = open(t, store, clock);
  const odd = zstdCompressSync(Buffer.concat([tinyDisk(), Buffer.from('x')]));
  t.match(await images.add({ ...image, sha256: digest(odd) }, Readable.from([odd])), { raw_bytes: 66_048 });
});

eachStore('the same image again is the same row, also at the same time', async (t, store, { clock }) => {
  const { images, files } = open(t, store, clock);
  const rows = await Promise.all([1, 2, 3].map(() => images.add(image, Readable.from([compressed]))));
  t.same(new Set(rows.map(({ id }) => id)).size, 1);
  const again = await images.add({ ...image, version: '12.1' }, Readable.from([compressed]));
  t.not(again.id, rows[0]!.id, 'under another name it is another row');
  t.same(files().filter((file) => file.startsWith('maps/')).length, 1, 'of the same chunks');
});

const bomb = zstdCompressSync(Buffer.alloc(3_000_000));
const other = zstdCompressSync(randomBytes(100));
const refused: readonly { title: string; content: Buffer; as?: Buffer; code: string }[] = [
  { title: 'of another digest', content: compressed, as: Buffer.from('x'), code: 'image.digest' },
  { title: 'that is not zstd', content: raw, code: 'image.invalid' },
  { title: 'that is empty', content: Buffer.alloc(0), code: 'image.invalid' },
  { title: 'that is cut short', content: compressed.subarray(0, -10), code: 'image.invalid' },
  {
    title: 'with something behind it',
    content: Buffer.concat([compressed, Buffer.from('garbage')]),
    code: 'image.invalid',
  },
  { title: 'that grows without end', content: bomb, code: 'image.too-large' },
  { title: 'that no machine boots from', content: zstdCompressSync(Buffer.alloc(65_536)), code: 'image.not-bootable' },
  { title: 'that is too long', content: randomBytes(1_100_000), code: 'image.too-large' },
];
for (const { title, content, as = content, code } of refused) {
  eachStore(`an image ${title} is refused, and nothing of it stays`, async (t, store, { clock }) => {
    const { images, files } = open(t, store, clock);
    await t.rejects(images.add({ ...image, sha256: digest(as) }, Readable.from(inPieces(content))), { code });
    t.same(files(), []);
    t.same(await listImages(store.read, undefined), []);
  });
}

eachStore('a sender that goes away leaves nothing', async (t, store, { clock }) => {
  const { images, files } = open(t, store, clock);
  const broken = Readable.from(
    (async function* () {
      yield compressed.subarray(0, 1000);
      throw new Error('connection reset');
    })(),
  );
  await t.rejects(images.add(image, broken), { message: 'connection reset' });
  t.same(files(), []);
});

eachStore('a name and version that exist keep their contents', async (t, store, { clock }) => {
  const { images, files } = open(t, store, clock);
  const { sha256: kept } = await images.add(image, Readable.from([compressed]));
  const before = files();
  const changed = images.add({ ...image, sha256: digest(other) }, Readable.from([other]));
  await t.rejects(changed, { code: 'state.conflict' });
  t.same(files(), before);
  t.match(await listImages(store.read, undefined), [{ sha256: kept }]);
});

eachStore(
  'a raw disk is frozen, and registered with the digest of its map and of what was sent',
  async (t, store, { clock }) => {
    const { images, files, disk } = open(t, store, clock);
    const file = disk(tinyDisk());
    const frozen = { declared: { ...image, format: 'qcow2' }, disk: await withDiskBytes(file, describeDisk) } as const;
    const row = await images.addFrozen(frozen, file, options);
    t.match(row, {
      name: 'debian',
      raw_bytes: 65_536,
      source_sha256: sha256,
      source_format: 'qcow2',
    });
    t.match(row, { partition_table: 'mbr', root_partition: 1, root_fs: 'ext4' }, 'and what is on it');
    t.equal((await images.frozen.map(row.sha256))?.bytes, row.map_bytes);
    t.equal((await images.frozen.image(row.sha256))?.bytes, row.bytes);
    t.same(await images.addFrozen(frozen, file, options), row, 'the same again is the same image');
    t.same(await listImages(store.read, undefined), [row]);
    const before = files();
    const declared = { ...image, sha256: '0'.repeat(64) };
    const changed = images.addFrozen({ ...frozen, declared }, disk(Buffer.alloc(1024, 'x')), options);
    await t.rejects(changed, { code: 'state.conflict' });
    t.same(files(), before, 'another one under its name leaves nothing');
  },
);

function open(t: Test, store: Store, clock: ManualClock) {
  const directory = mkdtempSync(join(tmpdir(), 'rs-images-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const images = new ImageStore({ directory, store, clock, ids: createIds(clock), mostBytes: 1_000_000 });
  const raws = mkdtempSync(join(tmpdir(), 'rs-raws-'));
  t.teardown(() => rmSync(raws, { recursive: true }));
  const disk = (content: Buffer): string => {
    const path = join(raws, digest(content));
    writeFileSync(path, content);
    return path;
  };
  const files = (): string[] =>
    readdirSync(directory, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ parentPath, name }) => join(parentPath, name).slice(directory.length + 1));
  return { images, disk, files };
}

function digest(content: Buffer): string {
  return createHash('sha256').update(content).digest('hex');
}

function* inPieces(content: Buffer): Generator<Buffer> {
  for (let at = 0; at < content.length; at += 10_000) yield content.subarray(at, at + 10_000);
}
