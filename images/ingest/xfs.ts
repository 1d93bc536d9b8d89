import { crc32c } from './crc32c.ts';
import type { DiskBytes } from './disk-bytes.ts';
import { damaged, isPowerOfTwo, uuidText, within } from './superblock.ts';

/** The superblock of XFS ("XFS Algorithms & Data Structures", Superblocks; big-endian, at 0). */
export async function readXfs(partition: DiskBytes): Promise<{ kind: 'xfs'; uuid: string } | undefined> {
  const block = await within(partition, 0, 512);
  if (block?.toString('latin1', 0, 4) !== 'XFSB') return undefined;
  const version = block.readUInt16BE(100) & 0xf;
  if (version !== 4 && version !== 5) throw damaged('xfs', `has version ${version}`);
  const sectorSize = block.readUInt16BE(102);
  if (!isPowerOfTwo(sectorSize, 512, 32_768)) throw damaged('xfs', `has sectors of ${sectorSize} bytes`);
  if (version === 5) await checkSum(partition, sectorSize);
  const blockSize = block.readUInt32BE(4);
  if (!isPowerOfTwo(blockSize, 512, 65_536)) throw damaged('xfs', `has blocks of ${blockSize} bytes`);
  const [blocks, groupBlocks, groups] = [block.readBigUInt64BE(8), block.readUInt32BE(84), block.readUInt32BE(88)];
  if (blocks === 0n || blocks * BigInt(blockSize) > BigInt(partition.size)) {
    throw damaged('xfs', `says it has ${blocks} blocks of ${blockSize} bytes, in a partition of ${partition.size}`);
  }
  // The last group may be shorter than the others.
  const room = BigInt(groupBlocks) * BigInt(groups);
  if (groups === 0 || blocks > room || blocks <= room - BigInt(groupBlocks))
    throw damaged('xfs', 'has groups that do not fit');
  if (block.readUInt8(126) !== 0) throw damaged('xfs', 'was never finished');
  if (block.readBigUInt64BE(48) === 0n) throw damaged('xfs', 'keeps its log on another device');
  return { kind: 'xfs', uuid: uuidText(block.subarray(32, 48)) };
}

async function checkSum(partition: DiskBytes, sectorSize: number): Promise<void> {
  const sector = await within(partition, 0, sectorSize);
  if (sector === undefined) throw damaged('xfs', 'is longer than its partition');
  const checksum = sector.readUInt32LE(CHECKSUM_AT);
  sector.writeUInt32LE(0, CHECKSUM_AT);
  if (crc32c(sector) !== checksum) throw damaged('xfs', 'has a damaged superblock');
}

const CHECKSUM_AT = 224;
