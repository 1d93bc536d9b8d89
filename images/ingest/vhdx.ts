import { RackstartError } from '../../appliance/kernel/errors.ts';
import { crc32c } from './crc32c.ts';
import type { DiskHeader } from './disk-header.ts';
import type { DiskBytes } from './disk-bytes.ts';
import { readVhdxMetadata } from './vhdx-metadata.ts';

/**
 * A VHDX ([MS-VHDX] §2; numbers are little-endian): a file identifier, two headers of which the newer right one counts, the
 * region table, and in its regions the table of blocks and the metadata. A differencing disk is refused.
 */
export async function readVhdx(bytes: DiskBytes): Promise<DiskHeader> {
  await checkHeaders(bytes);
  const { blocks, metadata } = await readRegions(bytes);
  const { virtualSize, blockSize } = await readVhdxMetadata(bytes, metadata);
  checkBlockTable(blocks, { virtualSize, blockSize });
  return { format: 'vhdx', variant: 'dynamic or fixed', virtualSize };
}

export interface Region {
  readonly offset: number;
  readonly length: number;
}

/** §2.2.2: at 64 KiB and 128 KiB, 4 KiB each under a checksum. */
async function checkHeaders(bytes: DiskBytes): Promise<void> {
  const headers = [await bytes.at(64 * KIB, 4 * KIB), await bytes.at(128 * KIB, 4 * KIB)];
  const right = headers.filter((header) => isSigned(header, 'head'));
  if (right.length === 0) throw invalid('has no right header: it is damaged or cut short');
  const [current] = right.sort((a, b) => (a.readBigUInt64LE(8) > b.readBigUInt64LE(8) ? -1 : 1));
  const version = current?.readUInt16LE(66);
  if (version !== 1) throw invalid(`has version ${String(version)}`);
}

/**
 * §2.2.3: the first table, at 192 KiB; the second, at 256 KiB, is for writers that were cut off, and qemu-img reads the first
 * alone. A region that must be understood and is not known here is refused, as the specification asks.
 */
async function readRegions(bytes: DiskBytes): Promise<{ blocks: Region; metadata: Region }> {
  const table = await bytes.at(192 * KIB, 64 * KIB);
  const count = table.readUInt32LE(8);
  if (count > MOST_REGIONS) throw invalid(`has ${count} regions`);
  if (!isSigned(table, 'regi')) throw invalid('has a damaged region table');
  const found = new Map<string, Region>();
  for (let at = 16; at < 16 + count * 32; at += 32) {
    const id = guidText(table.subarray(at, at + 16));
    const offset = table.readBigUInt64LE(at + 16);
    const length = table.readUInt32LE(at + 24);
    if (offset % MIB !== 0n || offset < MIB || length === 0 || offset + BigInt(length) > BigInt(bytes.size)) {
      throw invalid('has a region outside of the file: it is cut short');
    }
    if (found.has(id)) throw invalid(`has two regions ${id}`);
    if (id !== BLOCKS && id !== METADATA && (table.readUInt32LE(at + 28) & 1) !== 0) {
      throw new RackstartError('image.unsupported', `The VHDX needs a region (${id}) that is not known here.`);
    }
    found.set(id, { offset: Number(offset), length });
  }
  const [blocks, metadata] = [found.get(BLOCKS), found.get(METADATA)];
  if (blocks === undefined || metadata === undefined) throw invalid('has no table of blocks, or no metadata');
  return { blocks, metadata };
}

/** §2.5: an entry of eight bytes a block, and one for the sector bitmap of each chunk of 2^23 sectors. */
function checkBlockTable(blocks: Region, { virtualSize, blockSize }: { virtualSize: number; blockSize: number }): void {
  const payload = Math.ceil(virtualSize / blockSize);
  const aChunk = (2 ** 23 * 512) / blockSize;
  const entries = payload + Math.floor((payload - 1) / aChunk);
  if (entries * 8 > blocks.length) throw invalid('has a table of blocks too short for its disk');
}

/** The checksum is CRC-32C of the whole structure, with the checksum's own field as zero. */
function isSigned(structure: Buffer, signature: string): boolean {
  if (structure.toString('latin1', 0, 4) !== signature) return false;
  const before = crc32c(structure.subarray(0, 4));
  return crc32c(structure.subarray(8), crc32c(NO_CHECKSUM, before)) === structure.readUInt32LE(4);
}

/** A GUID as it lies in the file, sixteen bytes in hex. */
function guidText(bytes: Buffer): string {
  return bytes.toString('hex');
}

const NO_CHECKSUM = Buffer.alloc(4);
const KIB = 1024;
const MIB = 1024n ** 2n;
const MOST_REGIONS = 2047;
// 2DC27766-F623-4200-9D64-115E9BFD4A08 and 8B7CA206-4790-4B9A-B8FE-575F050F886E.
const BLOCKS = '6677c22d23f600429d64115e9bfd4a08';
const METADATA = '06a27c8b90479a4bb8fe575f050f886e';

function invalid(what: string): RackstartError {
  return new RackstartError('image.invalid', `The VHDX ${what}.`);
}
