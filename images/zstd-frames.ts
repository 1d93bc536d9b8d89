/**
 * What an image's whole file consists of beside its chunks, made byte by byte: it follows from the map alone, whatever
 * version of zstd compressed the chunks. RFC 8878 has the frames, zstd's contrib/seekable_format the seek table.
 */

/** Raw bytes of a chunk: the unit of compression, of transfer, and of what images share. */
export const CHUNK_BYTES = 4 * 1024 * 1024;

/** What a disk has whole ones of. */
export const SECTOR_BYTES = 512;

/** A frame that decompresses to `rawLength` zeros, SECTOR_BYTES to CHUNK_BYTES; 141 bytes for a whole chunk. */
export function zeroFrame(rawLength: number): Buffer {
  const header = Buffer.alloc(9);
  header.writeUInt32LE(0xfd2fb528);
  // Frame content size in four bytes, single segment: the window is the content, so no decoder needs more memory.
  header.writeUInt8(0b1010_0000, 4);
  header.writeUInt32LE(rawLength, 5);
  const blocks: Buffer[] = [];
  for (let at = 0; at < rawLength; at += BLOCK_BYTES) {
    const length = Math.min(BLOCK_BYTES, rawLength - at);
    const last = at + length === rawLength;
    blocks.push(at === 0 ? compressedZeros(length, last) : repeatedZero(length, last));
  }
  return Buffer.concat([header, ...blocks]);
}

/** Length of the frames for `rawLength` zeros: one for each whole chunk, and one for the rest. */
export function zeroFramesLength(rawLength: number): number {
  const rest = rawLength % CHUNK_BYTES;
  const whole = (rawLength - rest) / CHUNK_BYTES;
  return whole * zeroFrame(CHUNK_BYTES).length + (rest === 0 ? 0 : zeroFrame(rest).length);
}

export interface FrameLengths {
  readonly length: number;
  readonly rawLength: number;
}

/** The skippable frame at the end of a seekable file: both lengths of each frame before it, without checksums. */
export function seekTable(frames: Iterable<FrameLengths>): Buffer {
  const lengths = [...frames];
  const table = Buffer.alloc(seekTableLength(lengths.length));
  table.writeUInt32LE(0x184d2a5e);
  table.writeUInt32LE(table.length - 8, 4);
  let at = 8;
  for (const { length, rawLength } of lengths) {
    table.writeUInt32LE(length, at);
    table.writeUInt32LE(rawLength, at + 4);
    at += 8;
  }
  table.writeUInt32LE(lengths.length, at);
  table.writeUInt8(0, at + 4);
  table.writeUInt32LE(0x8f92eab1, at + 5);
  return table;
}

export function seekTableLength(frames: number): number {
  return 8 + 8 * frames + 9;
}

/** The most that a block may hold. */
const BLOCK_BYTES = 128 * 1024;

/**
 * A compressed block of one literal, repeated, and no sequence. The first block of a frame must not be a plain repetition: the
 * command of zstd up to 1.4.3 stops there ("should consume all input").
 */
function compressedZeros(length: number, last: boolean): Buffer {
  const literals = Buffer.alloc(5);
  // Literals of type RLE (1), their number in 20 bits (format 3); then the literal, then "0 sequences".
  literals.writeUIntLE(0b11_01 | (length << 4), 0, 3);
  return Buffer.concat([blockHeader(2, literals.length, last), literals]);
}

function repeatedZero(length: number, last: boolean): Buffer {
  return Buffer.concat([blockHeader(1, length, last), Buffer.alloc(1)]);
}

function blockHeader(type: number, size: number, last: boolean): Buffer {
  const header = Buffer.alloc(3);
  header.writeUIntLE((size << 3) | (type << 1) | (last ? 1 : 0), 0, 3);
  return header;
}
