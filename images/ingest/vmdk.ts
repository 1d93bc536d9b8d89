import { RackstartError } from '../../appliance/kernel/errors.ts';
import type { DiskHeader } from './disk-header.ts';
import type { DiskBytes } from './disk-bytes.ts';
import { elsewhere, readVmdkDescriptor } from './vmdk-descriptor.ts';

/**
 * A VMDK that is one file: monolithicSparse or streamOptimized (VMware, "Virtual Disk Format 1.1" and 5.0, "Hosted Sparse
 * Extents" and "Stream-Optimized Compressed Sparse Extents"; numbers are little-endian, places are sectors of 512 bytes).
 * The descriptor is in the file, and is held against the header: a VMDK whose disk lies in other files is refused.
 */
export async function readVmdk(bytes: DiskBytes): Promise<DiskHeader> {
  const start = await bytes.at(0, Math.min(SECTOR, bytes.size));
  // "# Disk DescriptorFile": names the files that hold the disk. "COWD": an extent of ESX.
  if (!isExtent(start)) throw elsewhere('is a descriptor or a part of a disk');
  const header = readExtent(await bytes.at(0, SECTOR));
  if (header.descriptorSectors === 0) throw elsewhere('is a part of a disk: it has no descriptor');
  if (header.descriptorSectors > MOST_DESCRIPTOR_SECTORS) throw invalid('has a descriptor that is too long');
  const text = await bytes.at(header.descriptorAt * BigInt(SECTOR), header.descriptorSectors * SECTOR);
  const createType = readVmdkDescriptor(text, header.capacity);
  checkVariant(createType, header);
  if (header.directoryAt === DIRECTORY_AT_END) await checkDirectory(bytes, await readFooter(bytes, header));
  else await checkDirectory(bytes, header);
  return { format: 'vmdk', variant: createType, virtualSize: Number(header.capacity) * SECTOR };
}

/** SparseExtentHeader. */
interface Extent {
  readonly compressed: boolean;
  readonly markers: boolean;
  readonly capacity: bigint;
  readonly grainSectors: number;
  readonly descriptorAt: bigint;
  readonly descriptorSectors: number;
  readonly directoryAt: bigint;
}

function isExtent(sector: Buffer): boolean {
  return sector.toString('latin1', 0, 4) === 'KDMV';
}

function readExtent(sector: Buffer): Extent {
  const version = sector.readUInt32LE(4);
  if (version < 1 || version > 3) throw invalid(`has version ${version}`);
  // A file that was sent as text has its line ends changed, and these four bytes tell.
  if (sector.toString('latin1', 73, 77) !== '\n \r\n')
    throw invalid('was damaged: its line ends were changed on the way');
  const flags = sector.readUInt32LE(8);
  const capacity = sector.readBigUInt64LE(12);
  if (capacity > MOST_SECTORS) throw invalid(`says that its disk has ${capacity} sectors`);
  // QEMU takes a header without a capacity for a descriptor, and opens the files it names.
  if (capacity === 0n) throw elsewhere('has a header without a disk');
  const grain = sector.readBigUInt64LE(20);
  if (grain < 8n || grain > MOST_GRAIN_SECTORS || (grain & (grain - 1n)) !== 0n) {
    throw invalid(`has grains of ${grain} sectors`);
  }
  const entries = sector.readUInt32LE(44);
  if (entries !== GRAINS_A_TABLE) throw invalid(`has grain tables of ${entries} entries, not ${GRAINS_A_TABLE}`);
  const compression = sector.readUInt16LE(77);
  const compressed = (flags & COMPRESSED) !== 0;
  if (compression > 1 || (compressed && compression !== 1)) throw invalid(`is compressed by method ${compression}`);
  return {
    compressed,
    markers: (flags & MARKERS) !== 0,
    capacity,
    grainSectors: Number(grain),
    descriptorAt: sector.readBigUInt64LE(28),
    descriptorSectors: Number(sector.readBigUInt64LE(36)),
    directoryAt: sector.readBigUInt64LE(56),
  };
}

function checkVariant(createType: string, { compressed, markers }: Extent): void {
  const streamed = createType === 'streamOptimized';
  if (compressed !== streamed || markers !== streamed)
    throw invalid(`says ${createType}, and its header says otherwise`);
}

/** The header again, with the place of the directory: a footer marker, the footer, the marker of the end, a sector each. */
async function readFooter(bytes: DiskBytes, header: Extent): Promise<Extent> {
  const end = await bytes.at(bytes.size - 3 * SECTOR, 3 * SECTOR);
  const [marker, sector, last] = [end.subarray(0, SECTOR), end.subarray(SECTOR, 2 * SECTOR), end.subarray(2 * SECTOR)];
  const isFooter =
    marker.readBigUInt64LE(0) === 1n && marker.readUInt32LE(8) === 0 && marker.readUInt32LE(12) === FOOTER;
  const isEnd = last.readBigUInt64LE(0) === 0n && last.readUInt32LE(8) === 0 && last.readUInt32LE(12) === END_OF_STREAM;
  if (!isFooter || !isEnd || !isExtent(sector)) throw invalid('has no footer at its end: it is cut short');
  const footer = readExtent(sector);
  // A reader takes the footer for the header: what it says must be what was checked.
  if (footer.directoryAt === DIRECTORY_AT_END) throw invalid('has no grain directory');
  for (const field of [
    'compressed',
    'markers',
    'capacity',
    'grainSectors',
    'descriptorAt',
    'descriptorSectors',
  ] as const) {
    if (footer[field] !== header[field]) throw invalid(`says one thing at its begin and another at its end (${field})`);
  }
  return footer;
}

async function checkDirectory(bytes: DiskBytes, { capacity, grainSectors, directoryAt }: Extent): Promise<void> {
  const covered = BigInt(GRAINS_A_TABLE * grainSectors);
  const entries = Number((capacity + covered - 1n) / covered);
  if (entries > MOST_TABLES) throw invalid(`has ${entries} grain tables`);
  const start = directoryAt * BigInt(SECTOR);
  if (directoryAt === 0n || start + BigInt(entries * 4) > BigInt(bytes.size)) {
    throw invalid('has its grain directory outside of the file: it is cut short');
  }
  const directory = await bytes.at(start, entries * 4);
  for (let at = 0; at < directory.length; at += 4) {
    const table = directory.readUInt32LE(at) * SECTOR;
    // 0: nothing is written there.
    if (table !== 0 && table + GRAINS_A_TABLE * 4 > bytes.size) throw invalid('has a grain table outside of the file');
  }
}

const SECTOR = 512;
const MOST_SECTORS = BigInt(Number.MAX_SAFE_INTEGER) / BigInt(SECTOR);
const MOST_GRAIN_SECTORS = 1n << 15n;
const GRAINS_A_TABLE = 512;
const MOST_DESCRIPTOR_SECTORS = 128;
// 4 MiB of directory: 64 TiB in the usual grains of 64 KiB are 2 M tables, 32 TiB fit.
const MOST_TABLES = 1 << 20;
const COMPRESSED = 1 << 16;
const MARKERS = 1 << 17;
const FOOTER = 3;
const END_OF_STREAM = 0;
const DIRECTORY_AT_END = 0xffff_ffff_ffff_ffffn;

function invalid(what: string): RackstartError {
  return new RackstartError('image.invalid', `The VMDK ${what}.`);
}
