import type { DiskBytes } from '../../images/ingest/disk-bytes.ts';
import { boundedBytes } from '../../images/ingest/disk-bytes.ts';

/** What is not zero in a disk image, in the order of its places. */
export interface Piece {
  readonly at: number;
  readonly bytes: Buffer;
}

/** A file of any size, of which a few pieces are not zero: a hundred thousand of them differ in one piece each. */
export class SparseImage {
  readonly size: number;
  readonly pieces: readonly Piece[];

  constructor(size: number, pieces: readonly Piece[]) {
    this.size = size;
    this.pieces = pieces;
  }

  /** What lies there; later pieces cover former ones. */
  read(offset: number, length: number): Buffer {
    const read = Buffer.alloc(length);
    for (const { at, bytes } of this.pieces) {
      if (at >= offset + length || at + bytes.length <= offset) continue;
      bytes.copy(read, Math.max(0, at - offset), Math.max(0, offset - at));
    }
    return read;
  }

  with(...pieces: readonly Piece[]): SparseImage {
    return new SparseImage(this.size, [...this.pieces, ...pieces]);
  }

  /** As the readers get it; `told` hears of every read. */
  opened(told: (offset: number, length: number) => void): DiskBytes {
    return boundedBytes(this.size, (offset, length) => {
      told(offset, length);
      return Promise.resolve(this.read(offset, length));
    });
  }
}
