import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { buffer } from 'node:stream/consumers';

import { test } from 'tap';

import { draw } from '../appliance/kernel/seeded.ts';
import { ChunkCache, PIECE_BYTES } from './chunk-cache.ts';
import { addImage, openChunks } from './chunks.fixture.ts';
import { chunkBytes, imageBytes } from './image-bytes.ts';
import { CHUNK_BYTES } from './zstd-frames.ts';

test('any range of the whole file is what the whole file has there', async (t) => {
  const chunks = openChunks(t);
  const zeros = 1100 * CHUNK_BYTES;
  const contents = [randomBytes(2 * PIECE_BYTES + 7), zeros, randomBytes(30), randomBytes(PIECE_BYTES), zeros + 512];
  const { map, whole } = addImage(chunks, contents);
  t.equal(map.bytes, whole.length);
  const cache = new ChunkCache(chunks.directory, 2 ** 24);
  const range = (start: number, end: number) => buffer(imageBytes(cache, map, start, end));
  t.ok((await range(0, whole.length - 1)).equals(whole));

  // Around every border, and anywhere.
  const borders = map.segments.flatMap(({ offset, length }) => [offset, offset + 141, offset + length]);
  const edges = [PIECE_BYTES, ...borders].flatMap((at) => [at - 1, at, at + 1]);
  const anywhere = Array.from({ length: 20 }, (_, at) => Math.floor(draw('range', at) * whole.length));
  const points = [0, ...edges, ...anywhere].filter((at) => at >= 0 && at < whole.length);
  for (const start of points) {
    for (const end of [start, start + 1, start + 300, start + PIECE_BYTES]) {
      const last = Math.min(end, whole.length - 1);
      const got = await range(start, last);
      if (!got.equals(whole.subarray(start, last + 1))) t.fail(`${String(start)} to ${String(last)} is something else`);
    }
  }
  t.pass(`${String(points.length)} beginnings`);
});

test('a part of a chunk is cut from the pieces that all share', async (t) => {
  const { directory, add } = openChunks(t);
  const content = randomBytes(PIECE_BYTES + 100);
  const sha256 = add(content);
  const cache = new ChunkCache(directory, 2 ** 24);
  const pieces = [];
  for await (const piece of chunkBytes(cache, sha256, 10, PIECE_BYTES + 5)) pieces.push(piece);
  t.ok(Buffer.concat(pieces).equals(content.subarray(10, PIECE_BYTES + 6)));
  t.equal(pieces[0]!.buffer, (await cache.piece(sha256, 0))!.buffer, 'nothing is copied');
});

test('a chunk that is gone ends the whole file with an error instead of a gap', async (t) => {
  const chunks = openChunks(t);
  const { map } = addImage(chunks, [randomBytes(100), randomBytes(200)]);
  const second = map.segments[1]!;
  rmSync(chunks.directory.chunkFile('sha256' in second ? second.sha256 : ''));
  const cache = new ChunkCache(chunks.directory, 2 ** 24);
  await t.rejects(buffer(imageBytes(cache, map, 0, map.bytes - 1)), { code: 'image.damaged' });
});
