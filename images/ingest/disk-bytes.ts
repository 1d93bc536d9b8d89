import { open } from 'node:fs/promises';

import { RackstartError } from '../../appliance/kernel/errors.ts';

/**
 * A file that a stranger made, read a piece at a time. What its own fields say of offsets and lengths is held against its
 * real size, and all that is read of it counts towards a budget, so that no field can make us read without end.
 */
export interface DiskBytes {
  readonly size: number;
  /** Exactly these bytes. Errors: `image.invalid` beyond the end of the file, and when the budget is used up. */
  at(offset: number | bigint, length: number): Promise<Buffer>;
}

/** Reads where headers, tables and superblocks are: a thousand times what an honest image takes. */
const READ_BUDGET = 64 * 1024 ** 2;

/** Opens the file for as long as `work` takes. */
export async function withDiskBytes<T>(path: string, work: (bytes: DiskBytes) => Promise<T>): Promise<T> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    const read = async (offset: number, length: number) => {
      const { bytesRead, buffer } = await file.read(Buffer.alloc(length), 0, length, offset);
      // Somebody shortens it while we look.
      if (bytesRead !== length) throw beyondEnd(offset, length, size);
      return buffer;
    };
    return await work(boundedBytes(size, read));
  } finally {
    await file.close();
  }
}

/** `read` is asked for what lies within `size` alone, and for `budget` bytes in all. */
export function boundedBytes(
  size: number,
  read: (offset: number, length: number) => Promise<Buffer>,
  budget = READ_BUDGET,
): DiskBytes {
  let left = budget;
  return {
    size,
    at: async (offset, length) => {
      if (offset < 0 || BigInt(offset) + BigInt(length) > BigInt(size)) throw beyondEnd(offset, length, size);
      left -= length;
      if (left < 0) throw new RackstartError('image.invalid', 'The image has more tables than any image needs.');
      return read(Number(offset), length);
    },
  };
}

function beyondEnd(offset: number | bigint, length: number, size: number): RackstartError {
  return new RackstartError(
    'image.invalid',
    `The image says that ${length} bytes are at ${offset}, and ends at ${size}: it is cut short, or not what it says.`,
  );
}
