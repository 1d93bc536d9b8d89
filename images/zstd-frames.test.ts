import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';

import { test } from 'tap';

import { CHUNK_BYTES, seekTable, seekTableLength, zeroFrame, zeroFramesLength } from './zstd-frames.ts';

const KIB = 1024;
const lengths = [512, 64 * KIB, 128 * KIB, 128 * KIB + 512, 1024 * KIB, CHUNK_BYTES - 512, CHUNK_BYTES];

test('a frame made of nothing is zeros to zlib and to the command of zstd', async (t) => {
  for (const length of lengths) {
    const frame = zeroFrame(length);
    t.ok(zstdDecompressSync(frame).equals(Buffer.alloc(length)), `${String(length)} zeros`);
    t.ok(byCommand(frame).equals(Buffer.alloc(length)), `${String(length)} zeros by command`);
  }
  t.equal(zeroFrame(CHUNK_BYTES).length, 141);
});

test('zeros of any length are whole frames and one for the rest', async (t) => {
  const rest = 3 * CHUNK_BYTES + 512;
  const frames = Buffer.concat([...Array.from({ length: 3 }, () => zeroFrame(CHUNK_BYTES)), zeroFrame(512)]);
  t.equal(zeroFramesLength(rest), frames.length);
  t.equal(zeroFramesLength(CHUNK_BYTES), zeroFrame(CHUNK_BYTES).length);
  t.ok(byCommand(frames).equals(Buffer.alloc(rest)));
});

test('a seek table behind frames changes nothing for who knows none, and finds each frame for who does', async (t) => {
  const raws = [randomBytes(1000), Buffer.alloc(2000, 'x'), Buffer.alloc(4096)];
  const frames = [zstdCompressSync(raws[0]!), zstdCompressSync(raws[1]!), zeroFrame(4096)];
  const table = seekTable(frames.map((frame, at) => ({ length: frame.length, rawLength: raws[at]!.length })));
  t.equal(table.length, seekTableLength(3));
  const whole = Buffer.concat([...frames, table]);
  t.ok(byCommand(whole).equals(Buffer.concat(raws)));

  // As the format's description reads it: from the end.
  t.equal(whole.readUInt32LE(whole.length - 4), 0x8f92eab1);
  t.equal(whole.readUInt8(whole.length - 5), 0, 'no checksums: 8 bytes an entry');
  const count = whole.readUInt32LE(whole.length - 9);
  t.equal(count, 3);
  const start = whole.length - 9 - 8 * count - 8;
  t.equal(whole.readUInt32LE(start), 0x184d2a5e);
  t.equal(whole.readUInt32LE(start + 4), 9 + 8 * count);
  let offset = 0;
  for (const [at, raw] of raws.entries()) {
    const [length, rawLength] = [0, 4].map((field) => whole.readUInt32LE(start + 8 + 8 * at + field));
    t.equal(rawLength, raw.length);
    t.ok(zstdDecompressSync(whole.subarray(offset, offset + length!)).equals(raw));
    offset += length!;
  }
  t.equal(offset, start);
});

function byCommand(input: Buffer): Buffer {
  const { status, stdout, stderr } = spawnSync('zstd', ['-dc'], { input, maxBuffer: 64 * KIB * KIB });
  if (status !== 0) throw new Error(`zstd -dc: ${stderr.toString()}`);
  return stdout;
}
