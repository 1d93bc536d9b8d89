import type { DiskBytes } from './disk-bytes.ts';
import type { Partition } from './partition.ts';
import { SECTOR, placed, wrongTable } from './partition.ts';

/** The first sector of a disk, as every PC since 1983 reads it; UEFI 2.10 §5.2. */
export interface MasterBootRecord {
  /** There is something for a BIOS to run. */
  readonly hasBootCode: boolean;
  /** It is there to keep tools that know no GPT from the disk ("protective"). */
  readonly isProtective: boolean;
  readonly entries: readonly MbrEntry[];
}

export interface MbrEntry {
  readonly number: number;
  readonly type: number;
  readonly first: number;
  readonly sectors: number;
}

/** undefined when sector 0 is no boot record. Errors: `image.partitions`. */
export async function readMasterBootRecord(bytes: DiskBytes): Promise<MasterBootRecord | undefined> {
  if (bytes.size < SECTOR) return undefined;
  const sector = await bytes.at(0, SECTOR);
  if (sector.readUInt16LE(510) !== SIGNATURE) return undefined;
  const entries = [...entriesOf(sector)];
  const isProtective = entries.some(({ type }) => type === GPT_PROTECTIVE);
  // A hybrid: two tables, and it would depend on the firmware which one counts.
  if (isProtective && entries.length > 1) throw wrongTable('is a hybrid of GPT and MBR');
  return { hasBootCode: sector.subarray(0, BOOT_CODE).some((byte) => byte !== 0), isProtective, entries };
}

/** The partitions of a disk without GPT; logical ones by their chain of records. Errors: `image.partitions`. */
export async function readMbr(bytes: DiskBytes, { entries }: MasterBootRecord): Promise<readonly Partition[]> {
  const primary = entries.filter(({ type }) => !EXTENDED.includes(type));
  const containers = entries.filter(({ type }) => EXTENDED.includes(type));
  if (containers.length > 1) throw wrongTable('has more than one extended partition');
  // They hold no data themselves, and must not overlap what does.
  const outer = placed([...primary, ...containers].map(partitionOf), SECTOR, bytes.size);
  const inner = await Promise.all(containers.map((container) => readChain(bytes, container)));
  const isContainer = (partition: Partition) => containers.some(({ number }) => number === partition.number);
  return [...outer.filter((partition) => !isContainer(partition)), ...inner.flat()];
}

/** Each record names one partition, relative to itself, and the next record, relative to the container. */
async function readChain(bytes: DiskBytes, container: MbrEntry): Promise<readonly Partition[]> {
  const found: Partition[] = [];
  let at = container.first;
  for (let number = 5; ; number++) {
    if (number > MOST_LOGICAL) throw wrongTable('has a chain of logical partitions without end');
    const sector = await bytes.at(at * SECTOR, SECTOR);
    if (sector.readUInt16LE(510) !== SIGNATURE) throw wrongTable(`has no record of logical partitions in sector ${at}`);
    const [partition, next, ...more] = entriesOf(sector, number);
    if (partition === undefined || more.length > 0) throw wrongTable('has a record of logical partitions that is none');
    found.push(partitionOf({ ...partition, number, first: at + partition.first }));
    if (next === undefined) break;
    if (!EXTENDED.includes(next.type)) throw wrongTable('has a record of logical partitions that is none');
    at = container.first + next.first;
  }
  const { offset, bytes: length } = partitionOf(container);
  return placed(found, offset + SECTOR, offset + length);
}

function* entriesOf(sector: Buffer, firstNumber = 1): Generator<MbrEntry> {
  for (let index = 0; index < 4; index++) {
    const entry = sector.subarray(TABLE + index * 16, TABLE + (index + 1) * 16);
    const [flag, type] = [entry.readUInt8(0), entry.readUInt8(4)];
    const [first, sectors] = [entry.readUInt32LE(8), entry.readUInt32LE(12)];
    if (type === 0) continue;
    // The boot sector of a file system without a table ends like this one too: its bytes there are no entries.
    if (flag !== 0 && flag !== 0x80) throw wrongTable('is none: sector 0 is that of a file system');
    if (sectors === 0) throw wrongTable(`has partition ${firstNumber + index} of no sectors`);
    yield { number: firstNumber + index, type, first, sectors };
  }
}

function partitionOf({ number, type, first, sectors }: MbrEntry): Partition {
  return { number, offset: first * SECTOR, bytes: sectors * SECTOR, purpose: PURPOSES[type] ?? 'other' };
}

const SIGNATURE = 0xaa55;
const BOOT_CODE = 440;
const TABLE = 446;
const GPT_PROTECTIVE = 0xee;
const EXTENDED: readonly number[] = [0x05, 0x0f, 0x85];
const MOST_LOGICAL = 63;
const PURPOSES: Readonly<Record<number, Partition['purpose']>> = {
  0x82: 'swap',
  0x8e: 'lvm',
  0xef: 'esp',
  0xfd: 'raid',
};
