import { createHash } from 'node:crypto';

import { RackstartError } from '../appliance/kernel/errors.ts';
import type { FrameLengths } from './zstd-frames.ts';
import { CHUNK_BYTES, SECTOR_BYTES, seekTableLength, zeroFramesLength } from './zstd-frames.ts';

/**
 * A frozen image: where each part of the raw disk is found, as text that a shell can read. The image's digest, its name
 * everywhere, is the SHA-256 of this text.
 *
 * ```text
 * rackstart-chunk-map 1 RAW-BYTES RAW-SHA256 BYTES
 * chunk RAW-OFFSET RAW-LENGTH OFFSET LENGTH SHA256
 * zeros RAW-OFFSET RAW-LENGTH OFFSET LENGTH
 * ```
 *
 * Numbers are decimal without leading zeros, digests 64 lower-case hex digits, fields are separated by one space, and each
 * line ends in a newline. Segments follow each other without a gap, in the raw disk as in the whole file.
 *
 * - A `chunk` is 4 MiB of the raw disk, at a multiple of 4 MiB; the last one may be shorter. It is one zstd frame of LENGTH
 *   bytes at OFFSET of the whole file; SHA256 is of these compressed bytes, and the name under which images share it.
 * - `zeros` are a range of whole chunks, as long as possible, up to the end of the disk where they reach it. In the whole
 *   file they are frames that `zstd-frames.ts` makes of nothing, one a chunk; no store keeps them.
 * - The whole file is these frames and a seek table behind them (a skippable frame), BYTES in all: any `zstd -dc` makes the
 *   raw disk of it.
 *
 * A raw disk is a multiple of 512 bytes. There is one map for any sequence of parts: what reads as another text is no map.
 */
export interface ChunkMap {
  readonly rawBytes: number;
  /** Of the raw disk: what `sha256sum` prints for it. */
  readonly rawSha256: string;
  /** Of the whole file, its seek table included. */
  readonly bytes: number;
  readonly segments: readonly Segment[];
}

export type Segment = Chunk | Zeros;

export interface Chunk extends Extent {
  readonly kind: 'chunk';
  /** Of the compressed bytes. */
  readonly sha256: string;
}

export interface Zeros extends Extent {
  readonly kind: 'zeros';
}

interface Extent extends FrameLengths {
  readonly rawOffset: number;
  /** In the whole file. */
  readonly offset: number;
}

/** A segment before it has its place. */
export type Part = Omit<Chunk, 'rawOffset' | 'offset'> | Pick<Zeros, 'kind' | 'rawLength'>;

/** More than zstd ever makes of a chunk (its bound is 16 KiB over); what a reader must have room for. */
export const MOST_CHUNK_BYTES = CHUNK_BYTES + 64 * 1024;

/** Gives each part its place; zeros that follow each other become one segment. Error: `image.invalid`. */
export function layOut(rawSha256: string, parts: Iterable<Part>): ChunkMap {
  const segments: Segment[] = [];
  let end = { raw: 0, whole: 0 };
  for (const part of parts) {
    if (end.raw % CHUNK_BYTES !== 0) throw invalid('A part follows one that is no whole chunk.');
    const before = segments.at(-1);
    const joined = part.kind === 'zeros' && before?.kind === 'zeros' ? segments.pop() : undefined;
    const segment = place(part, joined);
    segments.push(segment);
    end = { raw: segment.rawOffset + segment.rawLength, whole: segment.offset + segment.length };
  }
  if (segments.length === 0) throw invalid('A disk without a byte is none.');
  return {
    rawBytes: end.raw,
    rawSha256,
    bytes: end.whole + seekTableLength(Math.ceil(end.raw / CHUNK_BYTES)),
    segments,
  };

  function place(part: Part, joined: Segment | undefined): Segment {
    const at = { rawOffset: joined?.rawOffset ?? end.raw, offset: joined?.offset ?? end.whole };
    const most = part.kind === 'chunk' ? CHUNK_BYTES : Number.MAX_SAFE_INTEGER;
    if (!(part.rawLength > 0 && part.rawLength <= most) || part.rawLength % SECTOR_BYTES !== 0)
      throw invalid(`${String(part.rawLength)} raw bytes are no ${part.kind}.`);
    if (part.kind === 'zeros') {
      const rawLength = part.rawLength + (joined?.rawLength ?? 0);
      return { kind: 'zeros', ...at, rawLength, length: zeroFramesLength(rawLength) };
    }
    const { rawLength, length, sha256 } = part;
    if (!(length > 0 && length <= MOST_CHUNK_BYTES)) throw invalid(`${String(length)} bytes are no compressed chunk.`);
    return { kind: 'chunk', ...at, rawLength, length, sha256 };
  }
}

export function formatChunkMap({ rawBytes, rawSha256, bytes, segments }: ChunkMap): string {
  const lines = [`${FORMAT} ${String(rawBytes)} ${rawSha256} ${String(bytes)}`];
  for (const segment of segments) {
    const extent = [segment.rawOffset, segment.rawLength, segment.offset, segment.length].join(' ');
    lines.push(segment.kind === 'chunk' ? `chunk ${extent} ${segment.sha256}` : `zeros ${extent}`);
  }
  return `${lines.join('\n')}\n`;
}

/** Error: `image.invalid` for everything that `formatChunkMap` would not have written. */
export function parseChunkMap(text: string): ChunkMap {
  const [head = '', ...lines] = text.split('\n');
  const [, rawSha256] = HEAD.exec(head) ?? [];
  if (rawSha256 === undefined) throw invalid('It does not begin as a chunk map of version 1.');
  const map = layOut(rawSha256, lines.slice(0, -1).map(part));
  if (formatChunkMap(map) !== text) throw invalid('Its segments are not where they belong.');
  return map;
}

/** The image's name. */
export function chunkMapDigest(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** Both lengths of every frame of the whole file, in their order. */
export function* frames({ segments }: ChunkMap): Generator<FrameLengths> {
  for (const segment of segments) {
    if (segment.kind === 'chunk') yield segment;
    else yield* zeroFrameLengths(segment.rawLength);
  }
}

function* zeroFrameLengths(rawLength: number): Generator<FrameLengths> {
  for (let left = rawLength; left > 0; left -= CHUNK_BYTES) {
    const raw = Math.min(left, CHUNK_BYTES);
    yield { rawLength: raw, length: zeroFramesLength(raw) };
  }
}

const FORMAT = 'rackstart-chunk-map 1';
const HEAD = new RegExp(`^${FORMAT} [0-9]{1,16} ([0-9a-f]{64}) [0-9]{1,16}$`);
// What is not captured follows from the rest: `layOut` computes it, and the comparison of the texts checks it.
const CHUNK = /^chunk [0-9]{1,16} ([0-9]{1,8}) [0-9]{1,16} ([0-9]{1,8}) ([0-9a-f]{64})$/;
const ZEROS = /^zeros [0-9]{1,16} ([0-9]{1,16}) [0-9]{1,16} [0-9]{1,16}$/;

function part(line: string): Part {
  const [, rawLength, length, sha256] = CHUNK.exec(line) ?? [];
  if (sha256 !== undefined) return { kind: 'chunk', rawLength: Number(rawLength), length: Number(length), sha256 };
  const [, zeros] = ZEROS.exec(line) ?? [];
  if (zeros === undefined) throw invalid(`This is no line of one: ${JSON.stringify(line.slice(0, 100))}`);
  return { kind: 'zeros', rawLength: Number(zeros) };
}

function invalid(why: string): RackstartError {
  return new RackstartError('image.invalid', `The chunk map can't be used. ${why}`);
}
