import { crc32 } from 'node:zlib';

import type { DiskBytes } from './disk-bytes.ts';
import type { Partition } from './partition.ts';
import { SECTOR, placed, wrongTable } from './partition.ts';

/**
 * A GUID partition table (UEFI 2.10 §5.3): the header in sector 1, its entries, and their copy at the end of the disk, each
 * under its checksum, both saying the same, all of it within the disk. Errors: `image.partitions`.
 */
export async function readGpt(bytes: DiskBytes): Promise<readonly Partition[]> {
  const sectors = Math.floor(bytes.size / SECTOR);
  const primary = await readHeader(bytes, 1, 'first');
  if (primary.otherSector >= sectors) {
    throw wrongTable(`has its copy in sector ${primary.otherSector} of a disk of ${sectors}: the image was cut short`);
  }
  const copy = await readHeader(bytes, primary.otherSector, 'second');
  if (copy.otherSector !== 1)
    throw wrongTable(`has a copy that belongs to another table, in sector ${copy.otherSector}`);
  const entries = await readEntries(bytes, primary, 'first');
  const copied = await readEntries(bytes, copy, 'second');
  if (!copied.equals(entries) || copy.entryBytes !== primary.entryBytes) throw wrongTable('and its copy differ');
  if (primary.firstUsable < entriesEnd(primary) || primary.lastUsable >= copy.entriesAt) {
    throw wrongTable('lets partitions overlap the table itself');
  }
  const found = [...partitionsOf(entries, primary.entryBytes)];
  return placed(found, primary.firstUsable * SECTOR, (primary.lastUsable + 1) * SECTOR);
}

/** In sectors. */
interface Header {
  readonly otherSector: number;
  readonly firstUsable: number;
  readonly lastUsable: number;
  readonly entriesAt: number;
  readonly entries: number;
  readonly entryBytes: number;
  readonly entriesCrc: number;
}

async function readHeader(bytes: DiskBytes, at: number, which: string): Promise<Header> {
  const sector = await bytes.at(at * SECTOR, SECTOR);
  if (sector.toString('latin1', 0, 8) !== 'EFI PART') throw wrongTable(`has no ${which} header in sector ${at}`);
  const length = sector.readUInt32LE(12);
  if (length < 92 || length > SECTOR) throw wrongTable(`has a ${which} header of ${length} bytes`);
  const crc = sector.readUInt32LE(16);
  sector.writeUInt32LE(0, 16);
  if (crc32(sector.subarray(0, length)) !== crc) throw wrongTable(`has a damaged ${which} header`);
  if (sector.readBigUInt64LE(24) !== BigInt(at)) throw wrongTable(`has a ${which} header that belongs elsewhere`);
  const [entries, entryBytes] = [sector.readUInt32LE(80), sector.readUInt32LE(84)];
  if (entries === 0 || entries > MOST_ENTRIES) throw wrongTable(`has room for ${entries} partitions`);
  // "128 x 2^n".
  if (entryBytes < 128 || entryBytes > 4096 || (entryBytes & (entryBytes - 1)) !== 0) {
    throw wrongTable(`has entries of ${entryBytes} bytes`);
  }
  return {
    otherSector: sectorNumber(sector, 32),
    firstUsable: sectorNumber(sector, 40),
    lastUsable: sectorNumber(sector, 48),
    entriesAt: sectorNumber(sector, 72),
    entries,
    entryBytes,
    entriesCrc: sector.readUInt32LE(88),
  };
}

async function readEntries(
  bytes: DiskBytes,
  { entriesAt, entries, entryBytes, entriesCrc }: Header,
  which: string,
): Promise<Buffer> {
  const length = entries * entryBytes;
  if (entriesAt < 2 || entriesAt * SECTOR + length > bytes.size) throw wrongTable('has its entries beyond the disk');
  const table = await bytes.at(entriesAt * SECTOR, length);
  if (crc32(table) !== entriesCrc) throw wrongTable(`has damaged entries (${which} table)`);
  return table;
}

function entriesEnd({ entriesAt, entries, entryBytes }: Header): number {
  return entriesAt + Math.ceil((entries * entryBytes) / SECTOR);
}

function* partitionsOf(entries: Buffer, entryBytes: number): Generator<Partition> {
  for (let at = 0, number = 1; at < entries.length; at += entryBytes, number++) {
    const type = entries.toString('hex', at, at + 16);
    if (type === UNUSED) continue;
    const [first, last] = [sectorNumber(entries, at + 32), sectorNumber(entries, at + 40)];
    if (last < first) throw wrongTable(`has partition ${number} end before it begins`);
    yield { number, offset: first * SECTOR, bytes: (last - first + 1) * SECTOR, purpose: PURPOSES[type] ?? 'other' };
  }
}

function sectorNumber(bytes: Buffer, at: number): number {
  const value = bytes.readBigUInt64LE(at);
  if (value > MOST_SECTORS) throw wrongTable(`speaks of sector ${value}`);
  return Number(value);
}

const MOST_ENTRIES = 1024;
const MOST_SECTORS = BigInt(Number.MAX_SAFE_INTEGER) / BigInt(SECTOR) - 1n;
const UNUSED = '0'.repeat(32);

/** GUIDs as they lie on the disk: the first three parts little-endian. UEFI 2.10 §5.3.3; Discoverable Partitions Specification. */
const PURPOSES: Readonly<Record<string, Partition['purpose']>> = {
  // C12A7328-F81F-11D2-BA4B-00A0C93EC93B
  '28732ac11ff8d211ba4b00a0c93ec93b': 'esp',
  // 21686148-6449-6E6F-744E-656564454649
  '4861682149646f6e744e656564454649': 'bios-boot',
  // BC13C2FF-59E6-4262-A352-B275FD6F7172: /boot (XBOOTLDR)
  ffc213bce6596242a352b275fd6f7172: 'extended-boot',
  // 4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709: root of x86-64; B921B045-1DF0-41C3-AF44-4C6F280D3FAE: of arm64
  e3bc684fcde8b14d96e7fbcaf984b709: 'root',
  '45b021b9f01dc341af444c6f280d3fae': 'root',
  // 0657FD6D-A4AB-43C4-84E5-0933C84B4F4F
  '6dfd5706aba4c44384e50933c84b4f4f': 'swap',
  // E6D6D379-F507-44C2-A23C-238F2A3DF928
  '79d3d6e607f5c244a23c238f2a3df928': 'lvm',
  // A19D880F-05FC-4D3B-A006-743F0F84911E
  '0f889da1fc053b4da006743f0f84911e': 'raid',
};
