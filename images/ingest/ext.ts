import { crc32c } from './crc32c.ts';
import type { DiskBytes } from './disk-bytes.ts';
import { damaged, uuidText, within } from './superblock.ts';

/**
 * The superblock of ext2, 3 or 4 (Linux, Documentation/filesystems/ext4/super.rst; little-endian, at 1024). ext4 is what has
 * extents; the older ones are told apart, since they are not grown as it is.
 */
export async function readExt(
  partition: DiskBytes,
): Promise<{ kind: 'ext4'; uuid: string } | { kind: 'ext2' } | undefined> {
  const block = await within(partition, 1024, 1024);
  if (block?.readUInt16LE(0x38) !== 0xef53) return undefined;
  const [incompatible, readOnly] = [block.readUInt32LE(0x60), block.readUInt32LE(0x64)];
  if ((readOnly & METADATA_CSUM) !== 0) {
    // Seeded with all ones and not inverted at its end.
    const checksum = ~crc32c(block.subarray(0, 0x3fc)) >>> 0;
    if (block.readUInt32LE(0x3fc) !== checksum) throw damaged('ext4', 'has a damaged superblock');
  }
  const logBlockSize = block.readUInt32LE(0x18);
  if (logBlockSize > 6) throw damaged('ext4', `has blocks of 2^${10 + logBlockSize} bytes`);
  if (block.readUInt32LE(0) === 0 || block.readUInt32LE(0x28) === 0) throw damaged('ext4', 'has no inodes');
  const high = (incompatible & SIXTY_FOUR_BIT) === 0 ? 0 : block.readUInt32LE(0x150);
  const bytes = (high * 2 ** 32 + block.readUInt32LE(4)) * 2 ** (10 + logBlockSize);
  if (bytes === 0 || bytes > partition.size) {
    throw damaged('ext4', `says it has ${bytes} bytes, in a partition of ${partition.size}`);
  }
  if ((incompatible & JOURNAL_DEVICE) !== 0) throw damaged('ext4', 'is the journal of another one');
  if ((incompatible & EXTENTS) === 0) return { kind: 'ext2' };
  return { kind: 'ext4', uuid: uuidText(block.subarray(0x68, 0x78)) };
}

const JOURNAL_DEVICE = 0x8;
const EXTENTS = 0x40;
const SIXTY_FOUR_BIT = 0x80;
const METADATA_CSUM = 0x400;
