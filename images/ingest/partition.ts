import { RackstartError } from '../../appliance/kernel/errors.ts';

/** One partition of a disk, in bytes. */
export interface Partition {
  /** As Linux counts: of GPT the place in the table from 1, of MBR 1 to 4, logical ones from 5. */
  readonly number: number;
  readonly offset: number;
  readonly bytes: number;
  /** What the table says it is for. */
  readonly purpose: 'bios-boot' | 'esp' | 'extended-boot' | 'root' | 'swap' | 'lvm' | 'raid' | 'other';
}

/** Sectors of 512 bytes; images for disks of 4096 are not taken. */
export const SECTOR = 512;

/** Errors: `image.partitions` when one lies beyond the disk, or two overlap. Gives them in the order of their places. */
export function placed(partitions: readonly Partition[], firstByte: number, endByte: number): readonly Partition[] {
  const inOrder = [...partitions].sort((a, b) => a.offset - b.offset);
  let before: Partition | undefined;
  for (const partition of inOrder) {
    const { number, offset, bytes } = partition;
    if (offset < firstByte || offset + bytes > endByte) {
      throw wrongTable(`says that partition ${number} is at ${offset}-${offset + bytes} of a disk of ${endByte} bytes`);
    }
    if (before !== undefined && before.offset + before.bytes > offset) {
      throw wrongTable(`has partitions ${before.number} and ${number} overlap`);
    }
    before = partition;
  }
  return inOrder;
}

export function wrongTable(what: string): RackstartError {
  return new RackstartError('image.partitions', `The partition table ${what}.`);
}
