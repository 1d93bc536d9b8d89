import { randomBytes } from 'node:crypto';
import { rmSync, truncateSync, writeFileSync } from 'node:fs';

import { test } from 'tap';

import { ChunkCache, PIECE_BYTES } from './chunk-cache.ts';
import { MOST_CHUNK_BYTES } from './chunk-map.ts';
import { openChunks } from './chunks.fixture.ts';

const KIB = 1024;

test('a chunk comes in pieces that all clients share, and is read once however many ask', async (t) => {
  const { directory, add } = openChunks(t);
  const content = randomBytes(2 * PIECE_BYTES + 100);
  const sha256 = add(content);
  const cache = new ChunkCache(directory, 10 * content.length);
  const [first, ...others] = await Promise.all(Array.from({ length: 20 }, () => cache.piece(sha256, 1)));
  t.ok(first!.equals(content.subarray(PIECE_BYTES, 2 * PIECE_BYTES)));
  for (const other of others) t.equal(other, first, 'the same buffer');
  rmSync(directory.chunkFile(sha256));
  t.ok((await cache.piece(sha256, 2))!.equals(content.subarray(2 * PIECE_BYTES)), 'without the disk');
  t.equal(await cache.piece(sha256, 3), undefined, 'behind its end is nothing');
  t.equal(await cache.lengthOf(sha256), content.length);
  t.equal(cache.bytes, content.length);
  t.equal(first!.buffer.byteLength, PIECE_BYTES, 'who holds a piece holds no more');
});

test('the cache keeps its bound, and what was asked for last', async (t) => {
  const { directory, add } = openChunks(t);
  const [a, b, c] = [1, 2, 3].map(() => add(randomBytes(100 * KIB))) as [string, string, string];
  const cache = new ChunkCache(directory, 250 * KIB);
  const [pieceA, pieceB] = [await cache.piece(a, 0), await cache.piece(b, 0)];
  await cache.piece(a, 0);
  await cache.piece(c, 0);
  t.equal(cache.bytes, 200 * KIB);
  t.equal(await cache.piece(a, 0), pieceA, 'a was asked for after b');
  t.not(await cache.piece(b, 0), pieceB, 'b had to be read again');
  t.equal(cache.bytes, 200 * KIB);
});

test('a chunk larger than the cache is served, and not kept', async (t) => {
  const { directory, add } = openChunks(t);
  const content = randomBytes(300 * KIB);
  const cache = new ChunkCache(directory, 100 * KIB);
  t.ok((await cache.piece(add(content), 0))!.equals(content.subarray(0, PIECE_BYTES)));
  t.equal(cache.bytes, 0);
});

const spoilt: readonly [string, (path: string, content: Buffer) => void][] = [
  ['one bit', (path, content) => writeFileSync(path, content.with(70_000, content[70_000]! ^ 1))],
  ['its end', (path) => truncateSync(path, 1000)],
  ['all of it', (path) => truncateSync(path, 0)],
  ['more than a chunk can have', (path) => truncateSync(path, MOST_CHUNK_BYTES + 1)],
];
for (const [title, spoil] of spoilt) {
  test(`a chunk of which the disk lost or changed ${title} is never sent, until it is mended`, async (t) => {
    const { directory, add } = openChunks(t);
    const content = randomBytes(100 * KIB);
    const sha256 = add(content);
    spoil(directory.chunkFile(sha256), content);
    const cache = new ChunkCache(directory, 1000 * KIB);
    await t.rejects(cache.piece(sha256, 0), { code: 'image.damaged' });
    t.equal(cache.bytes, 0);
    add(content);
    t.ok((await cache.piece(sha256, 0))!.equals(content));
  });
}

test('a chunk that is not stored, or has no such name, is none; one that comes later is found', async (t) => {
  const { directory, add } = openChunks(t);
  const cache = new ChunkCache(directory, 1000 * KIB);
  for (const name of ['0'.repeat(64), '', '../../etc/passwd', 'A'.repeat(64)]) {
    t.equal(await cache.piece(name, 0), undefined);
    t.equal(await cache.lengthOf(name), undefined);
  }
  const content = randomBytes(10);
  const sha256 = add(content);
  rmSync(directory.chunkFile(sha256));
  t.equal(await cache.lengthOf(sha256), undefined);
  add(content);
  t.equal(await cache.lengthOf(sha256), 10);
});
