import { RackstartError } from '../appliance/kernel/errors.ts';
import type { ChunkCache } from './chunk-cache.ts';
import { PIECE_BYTES } from './chunk-cache.ts';
import type { ChunkMap, Segment } from './chunk-map.ts';
import { frames } from './chunk-map.ts';
import { CHUNK_BYTES, seekTable, zeroFrame } from './zstd-frames.ts';

/**
 * Bytes `start` to `end` of a chunk (both included), as pieces that others are sent too. Errors: `image.damaged`, also for one
 * that is not there any more.
 */
export async function* chunkBytes(
  cache: ChunkCache,
  sha256: string,
  start: number,
  end: number,
): AsyncGenerator<Buffer> {
  for (let at = start; at <= end;) {
    const index = Math.floor(at / PIECE_BYTES);
    const from = index * PIECE_BYTES;
    const piece = await cache.piece(sha256, index);
    if (piece === undefined) throw new RackstartError('image.damaged', `The chunk ${sha256} is missing.`);
    yield piece.subarray(at - from, end + 1 - from);
    at = from + piece.length;
  }
}

/** Bytes `start` to `end` of the whole file of an image, put together from chunks, zero frames and the seek table. */
export async function* imageBytes(
  cache: ChunkCache,
  map: ChunkMap,
  start: number,
  end: number,
): AsyncGenerator<Buffer> {
  for (const segment of map.segments) {
    const from = Math.max(start - segment.offset, 0);
    const to = Math.min(end - segment.offset, segment.length - 1);
    if (from <= to) yield* segmentBytes(cache, segment, from, to);
  }
  const { offset, length } = map.segments.at(-1) ?? { offset: 0, length: 0 };
  const table = offset + length;
  if (end >= table) yield seekTable(frames(map)).subarray(Math.max(start - table, 0), end + 1 - table);
}

function segmentBytes(
  cache: ChunkCache,
  segment: Segment,
  start: number,
  end: number,
): AsyncIterable<Buffer> | Iterable<Buffer> {
  return segment.kind === 'chunk'
    ? chunkBytes(cache, segment.sha256, start, end)
    : zeroBytes(segment.rawLength, start, end);
}

/** Of the frames for `rawLength` zeros, many in a piece: they are all the same, but for that of a rest. */
function* zeroBytes(rawLength: number, start: number, end: number): Generator<Buffer> {
  const frame = zeroFrame(CHUNK_BYTES);
  const rest = rawLength % CHUNK_BYTES;
  const whole = ((rawLength - rest) / CHUNK_BYTES) * frame.length;
  const most = FRAMES_A_PIECE * frame.length;
  for (let at = start; at <= end && at < whole;) {
    const from = at - (at % frame.length);
    const piece = Buffer.alloc(Math.min(most, whole - from), frame);
    yield piece.subarray(at - from, end + 1 - from);
    at = from + piece.length;
  }
  if (end >= whole) yield zeroFrame(rest).subarray(Math.max(start - whole, 0), end + 1 - whole);
}

const FRAMES_A_PIECE = 1024;
