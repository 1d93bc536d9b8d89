import { createReadStream } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { open, rm, stat } from 'node:fs/promises';
import { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createZstdDecompress } from 'node:zlib';

import { RackstartError } from '../../appliance/kernel/errors.ts';
import { SECTOR_BYTES } from '../zstd-frames.ts';
import { isDiskFull } from './disk-room.ts';

export interface Unpacking {
  /** A raw disk as one zstd frame. */
  readonly file: string;
  /** Does not exist yet. */
  readonly rawFile: string;
  /** Of the raw disk: a bomb ends there. */
  readonly mostBytes: number;
  readonly signal: AbortSignal;
  /** Of the compressed file. */
  readonly progress?: (done: number, of: number) => void;
}

/**
 * Makes the raw disk of it, in whole sectors and with holes where it has zeros. Nothing stays at `rawFile` when it fails.
 * Errors: `image.invalid`, `image.too-large`, `image.store-full`.
 */
export async function unpackZstd({ file, rawFile, mostBytes, signal, progress }: Unpacking): Promise<void> {
  const compressed = (await stat(file)).size;
  const zstd = createZstdDecompress({ chunkSize: PIECE });
  const raw = await open(rawFile, 'wx', 0o600);
  let bytes = 0;
  const write = new Writable({
    write(piece: Buffer, _encoding, done) {
      const at = bytes;
      bytes += piece.length;
      progress?.(zstd.bytesWritten, compressed);
      if (bytes > mostBytes) done(tooLarge(mostBytes));
      else if (piece.equals(ZEROS.subarray(0, piece.length))) done();
      else writeAll(raw, piece, at).then(() => done(), done);
    },
  });
  try {
    await pipeline(createReadStream(file), zstd, write, { signal });
    // Node ends with the first frame, zstd does not: what follows would be written to disks uncounted, or fail there.
    if (zstd.bytesWritten !== compressed) {
      throw new RackstartError('image.invalid', 'The image is more than one zstd frame.');
    }
    await raw.truncate(Math.ceil(bytes / SECTOR_BYTES) * SECTOR_BYTES);
  } catch (cause) {
    await rm(rawFile, { force: true });
    signal.throwIfAborted();
    if (isDiskFull(cause)) {
      throw new RackstartError('image.store-full', 'The disk became full while the image was unpacked.', { cause });
    }
    if (cause instanceof RackstartError) throw cause;
    throw new RackstartError('image.invalid', 'The image is no whole zstd stream.', { cause });
  } finally {
    await raw.close();
  }
}

const PIECE = 1024 ** 2;
const ZEROS = Buffer.alloc(PIECE);

async function writeAll(file: FileHandle, piece: Buffer, at: number): Promise<void> {
  for (let done = 0; done < piece.length;) {
    done += (await file.write(piece, done, piece.length - done, at + done)).bytesWritten;
  }
}

function tooLarge(mostBytes: number): RackstartError {
  return new RackstartError(
    'image.too-large',
    `The disk in the image has more than the ${mostBytes} bytes that are taken.`,
  );
}
