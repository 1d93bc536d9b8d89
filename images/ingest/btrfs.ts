import { createHash } from 'node:crypto';

import { crc32c } from './crc32c.ts';
import type { DiskBytes } from './disk-bytes.ts';
import { damaged, isPowerOfTwo, uuidText, within } from './superblock.ts';

/** The superblock of btrfs (btrfs documentation, "On-disk format", Superblock; little-endian, at 64 KiB). */
export async function readBtrfs(partition: DiskBytes): Promise<{ kind: 'btrfs'; uuid: string } | undefined> {
  const block = await within(partition, SUPERBLOCK_AT, 4096);
  if (block?.toString('latin1', 64, 72) !== '_BHRfS_M') return undefined;
  if (!isChecked(block)) throw damaged('btrfs', 'has a damaged superblock');
  if (block.readBigUInt64LE(48) !== BigInt(SUPERBLOCK_AT)) throw damaged('btrfs', 'has a superblock from elsewhere');
  const bytes = block.readBigUInt64LE(112);
  if (bytes === 0n || bytes > BigInt(partition.size)) {
    throw damaged('btrfs', `says it has ${bytes} bytes, in a partition of ${partition.size}`);
  }
  if (block.readBigUInt64LE(136) !== 1n) throw damaged('btrfs', 'lies on several devices');
  const [sectorSize, nodeSize] = [block.readUInt32LE(144), block.readUInt32LE(148)];
  if (!isPowerOfTwo(sectorSize, 4096, 65_536) || !isPowerOfTwo(nodeSize, sectorSize, 65_536)) {
    throw damaged('btrfs', `has sectors of ${sectorSize} and nodes of ${nodeSize} bytes`);
  }
  return { kind: 'btrfs', uuid: uuidText(block.subarray(32, 48)) };
}

/** crc32c and SHA-256; xxhash and BLAKE2b, which images do not use by default, are the kernel's to check. */
function isChecked(block: Buffer): boolean {
  const covered = block.subarray(32);
  switch (block.readUInt16LE(196)) {
    case 0:
      return crc32c(covered) === block.readUInt32LE(0);
    case 2:
      return createHash('sha256').update(covered).digest().equals(block.subarray(0, 32));
    default:
      return block.readUInt16LE(196) <= 3;
  }
}

const SUPERBLOCK_AT = 64 * 1024;
