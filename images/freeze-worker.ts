import { createHash } from 'node:crypto';
import { closeSync, futimesSync, openSync, readFileSync, readSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';

import type { Millis } from '../appliance/kernel/clock.ts';
import { goBehindOthers } from './behind-others.ts';
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
  /** 1 for each chunk that the hashing thread, which is ahead of the others, has found to be zeros; shared. */
  readonly zeros: Uint8Array;
  readonly now: Millis;
}

export type FreezeReport =
  /** `staged` when this thread has written the chunk's file, which is to be flushed. */
  | { readonly kind: 'chunk'; readonly index: number; readonly part: Part; readonly staged: boolean }
  | { readonly kind: 'hashed'; readonly sha256: string };

/** Everything here is synchronous: the thread does nothing else, and libuv's four threads stay free for the daemon. */
function work(task: FreezeTask, tell: (report: FreezeReport) => void): void {
  goBehindOthers();
  const file = openSync(task.raw, 'r');
  try {
    if (task.does === 'hash') tell({ kind: 'hashed', sha256: hashRaw(file, task) });
    else compressChunks(file, task, tell);
  } finally {
    closeSync(file);
  }
}

function hashRaw(file: number, { rawBytes, zeros }: FreezeTask): string {
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  for (let index = 0; index < zeros.length; index++) {
    const raw = readRaw(file, buffer, index, rawBytes);
    if (isZeros(raw)) Atomics.store(zeros, index, 1);
    hash.update(raw);
  }
  return hash.digest('hex');
}

function compressChunks(file: number, task: FreezeTask, tell: (report: FreezeReport) => void): void {
  const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  const { rawBytes, next, zeros } = task;
  for (;;) {
    const index = Atomics.add(next, 0, 1);
    if (index >= zeros.length) return;
    const raw = Atomics.load(zeros, index) === 1 ? undefined : readRaw(file, buffer, index, rawBytes);
    if (raw === undefined || isZeros(raw)) {
      const rawLength = lengthOf(index, rawBytes);
      tell({ kind: 'chunk', index, part: { kind: 'zeros', rawLength }, staged: false });
      continue;
    }
    const rawLength = raw.length;
    const frame = compressed(raw);
    const sha256 = createHash('sha256').update(frame).digest('hex');
    const staged = stage(sha256, frame, task);
    tell({ kind: 'chunk', index, part: { kind: 'chunk', rawLength, length: frame.length, sha256 }, staged });
  }
}

function readRaw(file: number, buffer: Buffer, index: number, rawBytes: number): Buffer {
  const [at, length] = [index * CHUNK_BYTES, lengthOf(index, rawBytes)];
  let got = 0;
  while (got < length) {
    const more = readSync(file, buffer, got, length - got, at + got);
    if (more === 0) throw new Error(`the raw disk ends at byte ${String(at + got)} of ${String(rawBytes)}`);
    got += more;
  }
  return buffer.subarray(0, length);
}

function lengthOf(index: number, rawBytes: number): number {
  return Math.min(CHUNK_BYTES, rawBytes - index * CHUNK_BYTES);
}

function isZeros(raw: Buffer): boolean {
  return raw.equals(ZEROS.subarray(0, raw.length));
}

const ZEROS = Buffer.alloc(CHUNK_BYTES);

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

/** False when another image has the chunk already: that one must be right, and is kept from being collected first. */
function stage(sha256: string, frame: Buffer, { staging, chunks, now }: FreezeTask): boolean {
  const known = join(chunks, sha256.slice(0, 2), sha256);
  try {
    utimesSync(known, now / 1000, now / 1000);
    if (statSync(known).size === frame.length && readFileSync(known).equals(frame)) return false;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  let file: number;
  try {
    file = openSync(join(staging, sha256), 'wx', 0o644);
  } catch (error) {
    // The same chunk elsewhere on this disk; whoever was first writes it.
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
  try {
    writeFileSync(file, frame);
    futimesSync(file, now / 1000, now / 1000);
  } finally {
    closeSync(file);
  }
  return true;
}

if (!isMainThread && parentPort !== null) {
  const port = parentPort;
  work(workerData as FreezeTask, (report) => port.postMessage(report));
}
