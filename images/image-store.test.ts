import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { zstdCompressSync } from 'node:zlib';

import type { Test } from 'tap';

import { createIds } from '../appliance/kernel/ids.ts';
import type { ManualClock } from '../appliance/kernel/manual-clock.ts';
import type { Store } from '../appliance/store/store.ts';
import { eachStore } from '../appliance/store/test-stores.ts';
import type { NewImage } from './image-store.ts';
import { ImageStore } from './image-store.ts';

const raw = Buffer.concat([randomBytes(50_000), Buffer.alloc(200_000)]);
const compressed = zstdCompressSync(raw);
const sha256 = digest(compressed);
const options = { signal: new AbortController().signal };
const image: NewImage = { name: 'debian', version: '12', sha256, rootPartition: 3, kernelArgs: 'quiet' };

eachStore(
  'an image is kept under the digest of its file, and registered with both its sizes',
  async (t, store, { clock }) => {
    const { images, files } = open(t, store, clock);
    const row = await images.add({ ...image, sha256: sha256.toUpperCase() }, Readable.from(inPieces(compressed)));
    t.match(row, { name: 'debian', sha256, bytes: compressed.length, raw_bytes: raw.length, format: 'raw+zstd' });
    t.same(files(), [`${sha256}.zst`]);
    const found = await images.find(sha256);
    t.equal(found?.bytes, compressed.length);
    t.ok(readFileSync(found!.path).equals(compressed));
    t.match(await images.list(), [{ id: row.id }]);
    for (const wrong of ['0'.repeat(64), '../etc/passwd', '', `${sha256}.zst`])
      t.equal(await images.find(wrong), undefined);
  },
);

eachStore('the same image again is the same row, also at the same time', async (t, store, { clock }) => {
  const { images, files } = open(t, store, clock);
  const rows = await Promise.all([1, 2, 3].map(() => images.add(image, Readable.from([compressed]))));
  t.same(new Set(rows.map(({ id }) => id)).size, 1);
  const again = await images.add({ ...image, version: '12.1' }, Readable.from([compressed]));
  t.not(again.id, rows[0]!.id, 'under another name it is another row');
  t.same(files(), [`${sha256}.zst`], 'of the same file');
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
  { title: 'that grows without end', content: bomb, code: 'image.invalid' },
  { title: 'that is too long', content: randomBytes(1_100_000), code: 'image.invalid' },
];
for (const { title, content, as = content, code } of refused) {
  eachStore(`an image ${title} is refused, and nothing of it stays`, async (t, store, { clock }) => {
    const { images, files } = open(t, store, clock);
    await t.rejects(images.add({ ...image, sha256: digest(as) }, Readable.from(inPieces(content))), { code });
    t.same(files(), []);
    t.same(await images.list(), []);
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
  await images.add(image, Readable.from([compressed]));
  const changed = images.add({ ...image, sha256: digest(other) }, Readable.from([other]));
  await t.rejects(changed, { code: 'state.conflict' });
  t.same(files(), [`${sha256}.zst`]);
  t.match(await images.list(), [{ sha256 }]);
});

eachStore(
  'a raw disk is frozen, and registered with the digest of its map and of what was sent',
  async (t, store, { clock }) => {
    const { images, files, disk } = open(t, store, clock);
    const file = disk(Buffer.alloc(51_200, 'disk'));
    const row = await images.addFrozen(image, file, options);
    t.match(row, { name: 'debian', raw_bytes: 51_200, format: 'chunks', source_sha256: sha256 });
    t.equal((await images.frozen.map(row.sha256))?.bytes, row.map_bytes);
    t.equal((await images.frozen.image(row.sha256))?.bytes, row.bytes);
    t.equal(await images.find(row.sha256), undefined, 'it is no compressed file');
    t.same(await images.addFrozen(image, file, options), row, 'the same again is the same image');
    t.same(await images.list(), [row]);
    const before = files();
    const changed = images.addFrozen({ ...image, sha256: '0'.repeat(64) }, disk(Buffer.alloc(1024, 'x')), options);
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
  return { images, disk, files: () => readdirSync(directory, { recursive: true }) };
}

function digest(content: Buffer): string {
  return createHash('sha256').update(content).digest('hex');
}

function* inPieces(content: Buffer): Generator<Buffer> {
  for (let at = 0; at < content.length; at += 10_000) yield content.subarray(at, at + 10_000);
}
