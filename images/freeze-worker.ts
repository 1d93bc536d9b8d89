import { createHash } from 'node:crypto';
import {
  closeSync,
  fsyncSync,
  futimesSync,
  openSync,
  readFileSync,
  readSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { setPriority } from 'node:os';
import { join } from 'node:path';
import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';

import type { Millis } from '../appliance/kernel/clock.ts';
import type { Part } from './chunk-map.ts';
import { MOST_CHUNK_BYTES } from './chunk-map.ts';
import { CHUNK_BYTES } from './zstd-frames.ts';

/** What one thread of a freeze is started with. */
export interface FreezeTask {
  readonly does: 'hash' | 'compress';
  /** The raw disk, and its length. */
  readonly raw: string;
  readonly rawBytes: number;
  /** Where new chunks go, and where those of other images are. */
  readonly staging: string;
  readonly chunks: string;
  /** The first chunk that nobody has taken; shared. */
  readonly next: Int32Array;
  readonly now: Millis;
}

export type FreezeReport =
  | { readonly kind: 'chunk'; readonly index: number; readonly part: Part }
  | { readonly kind: 'hashed'; readonly sha256: string };

/** Everything here is synchronous: the thread does nothing else, and libuv's four threads stay free for the daemon. */
function work(task: FreezeTask, tell: (report: FreezeReport) => void): void {
  // Of this thread alone (Linux): machines that boot come before images that are made.
  setPriority(10);
  const file = openSync(task.raw, 'r');
  try {
    if (task.does === 'hash') tell({ kind: 'hashed', sha256: hashRaw(file, task.rawBytes) });
    else compressChunks(file, task, tell);
  } finally {
    closeSync(file);
  }
}

function hashRaw(file: number, rawBytes: number): string {
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  for (let at = 0; at < rawBytes; at += CHUNK_BYTES) hash.update(readRaw(file, buffer, at, rawBytes));
  return hash.digest('hex');
}

function compressChunks(file: number, task: FreezeTask, tell: (report: FreezeReport) => void): void {
  const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  const zeros = Buffer.alloc(CHUNK_BYTES);
  for (;;) {
    const index = Atomics.add(task.next, 0, 1);
    const at = index * CHUNK_BYTES;
    if (at >= task.rawBytes) return;
    const raw = readRaw(file, buffer, at, task.rawBytes);
    const rawLength = raw.length;
    if (raw.equals(zeros.subarray(0, rawLength))) {
      tell({ kind: 'chunk', index, part: { kind: 'zeros', rawLength } });
      continue;
    }
    const frame = compressed(raw);
    const sha256 = createHash('sha256').update(frame).digest('hex');
    keep(sha256, frame, task);
    tell({ kind: 'chunk', index, part: { kind: 'chunk', rawLength, length: frame.length, sha256 } });
  }
}

function readRaw(file: number, buffer: Buffer, at: number, rawBytes: number): Buffer {
  const length = Math.min(CHUNK_BYTES, rawBytes - at);
  let got = 0;
  while (got < length) {
    const more = readSync(file, buffer, got, length - got, at + got);
    if (more === 0) throw new Error(`the raw disk ends at byte ${String(at + got)} of ${String(rawBytes)}`);
    got += more;
  }
  return buffer.subarray(0, length);
}

/** Unpacked again and compared: what is wrong here would be wrong on every disk. That costs a quarter of the compression. */
function compressed(raw: Buffer): Buffer {
  const frame = zstdCompressSync(raw, { chunkSize: MOST_CHUNK_BYTES, params: COMPRESSION });
  if (!zstdDecompressSync(frame, { chunkSize: CHUNK_BYTES }).equals(raw)) {
    throw new Error('a chunk was compressed to something else: check the memory of this host');
  }
  return frame;
}

// Level 3 of zstd, its default, with a checksum for those who read the whole file without its map.
const COMPRESSION = { [constants.ZSTD_c_compressionLevel]: 3, [constants.ZSTD_c_checksumFlag]: 1 };

/** Stages the chunk, unless another image has it: that one must be right, and is kept from being collected first. */
function keep(sha256: string, frame: Buffer, { staging, chunks, now }: FreezeTask): void {
  const known = join(chunks, sha256.slice(0, 2), sha256);
  try {
    utimesSync(known, now / 1000, now / 1000);
    if (statSync(known).size === frame.length && readFileSync(known).equals(frame)) return;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  let file: number;
  try {
    file = openSync(join(staging, sha256), 'wx', 0o644);
  } catch (error) {
    // The same chunk elsewhere on this disk; whoever was first writes it.
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return;
    throw error;
  }
  try {
    writeFileSync(file, frame);
    futimesSync(file, now / 1000, now / 1000);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

if (!isMainThread && parentPort !== null) {
  const port = parentPort;
  work(workerData as FreezeTask, (report) => port.postMessage(report));
}
