import type { DiskBytes } from './disk-bytes.ts';
import { damaged, isPowerOfTwo, within } from './superblock.ts';

/**
 * A FAT file system, as firmware reads it (Microsoft, "FAT: General Overview of On-Disk Format" 1.03; UEFI 2.10 §13.3), and
 * whether it has a loader at the place where firmware that knows nothing of this disk looks: \EFI\BOOT\BOOTX64.EFI (§3.5.1.1).
 */
export async function readFat(partition: DiskBytes): Promise<{ kind: 'fat'; hasLoader: boolean } | undefined> {
  const sector = await within(partition, 0, 512);
  if (sector?.readUInt16LE(510) !== 0xaa55) return undefined;
  const label = sector.toString('latin1', 54, 59).startsWith('FAT') || sector.toString('latin1', 82, 87) === 'FAT32';
  if (!label) return undefined;
  const volume = readVolume(sector, partition.size);
  let directory = await readRoot(partition, volume);
  for (const name of ['EFI        ', 'BOOT       ']) {
    const entry = entryOf(directory, name);
    if (entry === undefined || (entry.attributes & DIRECTORY) === 0) return { kind: 'fat', hasLoader: false };
    directory = await readChain(partition, volume, entry.cluster);
  }
  const loader = LOADERS.some((name) => (entryOf(directory, name)?.bytes ?? 0) > 0);
  return { kind: 'fat', hasLoader: loader };
}

interface Volume {
  readonly bits: 12 | 16 | 32;
  readonly fatAt: number;
  readonly fatBytes: number;
  readonly clusterBytes: number;
  readonly clusters: number;
  readonly dataAt: number;
  /** FAT12 and 16: a place of its own. FAT32: a chain like any. */
  readonly root: { readonly at: number; readonly bytes: number } | { readonly cluster: number };
}

function readVolume(sector: Buffer, size: number): Volume {
  const sectorBytes = sector.readUInt16LE(11);
  const perCluster = sector.readUInt8(13);
  const [reserved, fats] = [sector.readUInt16LE(14), sector.readUInt8(16)];
  const rootEntries = sector.readUInt16LE(17);
  const total = sector.readUInt16LE(19) || sector.readUInt32LE(32);
  const fatSectors = sector.readUInt16LE(22) || sector.readUInt32LE(36);
  if (!isPowerOfTwo(sectorBytes, 512, 4096) || !isPowerOfTwo(perCluster, 1, 128))
    throw damaged('FAT', 'has no sectors');
  if (reserved === 0 || fats === 0 || fats > 2 || fatSectors === 0) throw damaged('FAT', 'has no table');
  if (total * sectorBytes > size) {
    throw damaged('FAT', `says it has ${total * sectorBytes} bytes, in a partition of ${size}`);
  }
  const rootAt = reserved + fats * fatSectors;
  const rootSectors = Math.ceil((rootEntries * 32) / sectorBytes);
  const clusters = Math.floor((total - rootAt - rootSectors) / perCluster);
  if (clusters < 1) throw damaged('FAT', 'has no room for files');
  // The count of clusters, and nothing else, says which of the three it is.
  const bits = clusters < 4085 ? 12 : clusters < 65_525 ? 16 : 32;
  return {
    bits,
    fatAt: reserved * sectorBytes,
    fatBytes: fatSectors * sectorBytes,
    clusterBytes: perCluster * sectorBytes,
    clusters,
    dataAt: (rootAt + rootSectors) * sectorBytes,
    root: bits === 32 ? { cluster: sector.readUInt32LE(44) } : { at: rootAt * sectorBytes, bytes: rootEntries * 32 },
  };
}

async function readRoot(partition: DiskBytes, volume: Volume): Promise<Buffer> {
  const { root } = volume;
  return 'cluster' in root ? readChain(partition, volume, root.cluster) : partition.at(root.at, root.bytes);
}

/** A directory, its first 64 KiB: those of an ESP on the way to the loader have a few entries. */
async function readChain(partition: DiskBytes, volume: Volume, first: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let cluster = first;
  for (let bytes = 0; bytes < MOST_DIRECTORY; bytes += volume.clusterBytes) {
    if (cluster < 2 || cluster >= volume.clusters + 2) throw damaged('FAT', `has a directory in cluster ${cluster}`);
    parts.push(await partition.at(volume.dataAt + (cluster - 2) * volume.clusterBytes, volume.clusterBytes));
    cluster = await nextCluster(partition, volume, cluster);
    if (cluster >= END_OF_CHAIN[volume.bits]) break;
  }
  return Buffer.concat(parts);
}

async function nextCluster(partition: DiskBytes, { bits, fatAt, fatBytes }: Volume, cluster: number): Promise<number> {
  const at = Math.floor((cluster * bits) / 8);
  const length = bits === 32 ? 4 : 2;
  if (at + length > fatBytes) throw damaged('FAT', 'has a table too short for its clusters');
  const entry = await partition.at(fatAt + at, length);
  if (bits === 32) return entry.readUInt32LE(0) & 0x0fff_ffff;
  const pair = entry.readUInt16LE(0);
  if (bits === 16) return pair;
  return cluster % 2 === 0 ? pair & 0xfff : pair >>> 4;
}

/** By its short name, eleven characters; long names are kept beside one that firmware finds. */
function entryOf(directory: Buffer, name: string): { attributes: number; cluster: number; bytes: number } | undefined {
  for (let at = 0; at + 32 <= directory.length; at += 32) {
    const entry = directory.subarray(at, at + 32);
    if (entry[0] === 0) return undefined;
    const attributes = entry.readUInt8(11);
    if ((attributes & VOLUME_LABEL) !== 0 || entry.toString('latin1', 0, 11) !== name) continue;
    const cluster = entry.readUInt16LE(20) * 65_536 + entry.readUInt16LE(26);
    return { attributes, cluster, bytes: entry.readUInt32LE(28) };
  }
  return undefined;
}

const LOADERS = ['BOOTX64 EFI', 'BOOTAA64EFI'];
const DIRECTORY = 0x10;
const VOLUME_LABEL = 0x08;
const MOST_DIRECTORY = 64 * 1024;
const END_OF_CHAIN = { 12: 0xff8, 16: 0xfff8, 32: 0x0fff_fff8 } as const;
