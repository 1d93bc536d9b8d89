import { hash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

import type { Test } from 'tap';

import type { ChunkMap, Segment } from '../chunk-map.ts';
import { MOST_CHUNK_BYTES, formatChunkMap, layOut } from '../chunk-map.ts';
import { CHUNK_BYTES, zeroFramesLength } from '../zstd-frames.ts';
import { chunkRig, chunkedImage, frame, isDirty } from './chunks.fixture.ts';
import { writerTest as test } from './writer.fixture.ts';

test('an image larger than the disk is refused before the first write', async (t) => {
  const { ramdisk, disk } = await chunkRig(t, chunkedImage('abc'), { diskBytes: 3 * CHUNK_BYTES - 512 });
  t.match(await ramdisk.stage('image'), { code: 'image.invalid', reason: /the disk .* has 12582400/ });
  t.ok(isDirty(disk));
});

test('a map with another digest is refused before the first write', async (t) => {
  const { ramdisk, disk, order } = await chunkRig(t, chunkedImage('abc'));
  order({ image_map_sha256: 'ab'.repeat(32) });
  t.match(await ramdisk.stage('image'), { code: 'image.digest', reason: /ordered was (ab){32}/ });
  order({ image_map_bytes: 10 });
  t.match(await ramdisk.stage('image'), { code: 'image.unreachable', reason: /did not arrive.*aximum file size/ });
  t.ok(isDirty(disk));
});

test('a map whose sizes lie is refused before the first write, though its digest is right', async (t) => {
  const image = chunkedImage('ab0c');
  const lies: Record<string, (text: string) => string> = {
    'another version': (text) => text.replace('map 1', 'map 2'),
    'more bytes than ordered': (text) => text.replace('16777216', '20971520'),
    'ends early': (text) => text.replace(/chunk 12582912.*\n/, ''),
    'goes on': (text) => `${text}zeros 16777216 4194304 0 141\n`,
    'a gap': (text) => text.replace('chunk 4194304', 'chunk 8388608'),
    'an overlap': (text) => text.replace('zeros 8388608', 'zeros 4194304'),
    'a short chunk in the middle': (text) => text.replace('chunk 0 4194304', 'chunk 0 512'),
    'a long chunk': (text) => text.replace('zeros 8388608 4194304', 'zeros 8388608 8388608'),
    'nothing but zeros, too many': (text) => text.replace(/(\n)[^]*/, '$1zeros 0 33554432 0 1128\n'),
    'no numbers': (text) => text.replace('chunk 4194304', 'chunk 0x400000'),
    'a negative number': (text) => text.replace('zeros 8388608 4194304', 'zeros 8388608 -4194304'),
    'a path for a digest': (text) => text.replace(/[0-9a-f]{64}\nzeros/, `${'../'.repeat(21)}a\nzeros`),
    'an unknown kind': (text) => text.replace('zeros', 'ones'),
    'more on a line': (text) => text.replace('\nzeros 8388608', ' more\nzeros 8388608'),
    'a huge chunk': (text) => text.replace(/(chunk 4194304 4194304 \d+) \d+/, `$1 ${MOST_CHUNK_BYTES + 1}`),
    'a blank more': (text) => text.replace('zeros 8388608', 'zeros  8388608'),
    'a blank at the end': (text) => text.replace('\nzeros', ' \nzeros'),
    'another kind of blank': (text) => text.replace('zeros 8388608', 'zeros\t8388608'),
    'no last newline': (text) => text.slice(0, -1),
    'a NUL': (text) => text.replace('\nzeros', '\0\nzeros'),
    'another place in the whole file': (text) => text.replace(/(chunk 4194304 4194304 \d+)/, '$10'),
    'zeros of another length': (text) => text.replace(' 141\n', ' 142\n'),
    'another length of the whole file': (text) => text.replace(/(\d)\n/, '$10\n'),
    'zeros in two parts': () => formatChunkMap(zerosApart(chunkedImage('a00c').map)),
    nothing: () => 'rackstart-chunk-map 1\n',
  };
  const { ramdisk, disk, order } = await chunkRig(t, image);
  for (const [lie, tell] of Object.entries(lies)) {
    const text = tell(formatChunkMap(image.map));
    t.not(text, formatChunkMap(image.map), lie);
    const map = await serveText(t, text);
    order({ image_map_url: map, image_map_bytes: text.length, image_map_sha256: hash('sha256', text) });
    t.match(await ramdisk.stage('image'), { code: 'image.invalid', reason: /its map / }, lie);
  }
  t.ok(isDirty(disk));
});

test('a chunk that unpacks to another length is refused before it is written', async (t) => {
  for (const length of [CHUNK_BYTES - 512, 100 * CHUNK_BYTES]) {
    const image = chunkedImage('abc');
    const bomb = frame(Buffer.alloc(length, 'b'));
    const sha256 = hash('sha256', bomb);
    image.chunks.set(sha256, bomb);
    const parts = image.map.segments.map((segment, index) =>
      index === 1 ? { ...segment, kind: 'chunk' as const, length: bomb.length, sha256 } : segment,
    );
    const map = layOut(image.map.rawSha256, parts);
    const { ramdisk, disk } = await chunkRig(t, { ...image, map });
    t.match(await ramdisk.stage('image'), { code: 'image.invalid', reason: /another length/ }, String(length));
    t.notOk(readFileSync(disk).includes(Buffer.alloc(512, 'b')));
  }
});

test('an order that names its image badly is refused before the first write', async (t) => {
  const { ramdisk, disk, order } = await chunkRig(t, chunkedImage('abc'));
  for (const wrong of [
    { image_map_url: 'file:///etc/passwd' },
    { chunk_url: 'http://10.0.0.1/"\noutput = "/etc/passwd' },
    { image_map_sha256: 'AB'.repeat(32) },
    { image_map_bytes: '-1' },
    { image_raw_bytes: '0x10' },
    { image_read_back: 'some' },
  ]) {
    order(wrong);
    t.match(await ramdisk.stage('image'), { code: 'boot.protocol' }, JSON.stringify(wrong));
  }
  t.ok(isDirty(disk));
});

/** Each chunk of zeros for itself, at its right place. */
function zerosApart(map: ChunkMap): ChunkMap {
  const length = zeroFramesLength(CHUNK_BYTES);
  const segments = map.segments.flatMap((segment): Segment[] => {
    if (segment.kind === 'chunk') return [segment];
    return Array.from({ length: segment.rawLength / CHUNK_BYTES }, (_, index) => {
      const [rawOffset, offset] = [segment.rawOffset + index * CHUNK_BYTES, segment.offset + index * length];
      return { kind: 'zeros', rawOffset, rawLength: CHUNK_BYTES, offset, length };
    });
  });
  return { ...map, segments };
}

async function serveText(t: Test, text: string): Promise<string> {
  const server = createServer((_request, response) => response.end(text)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/map`;
}
