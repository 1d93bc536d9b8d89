import { RackstartError } from '../../appliance/kernel/errors.ts';
import { extHas } from './ext-files.ts';
import type { Contents } from './file-system.ts';
import { readContents } from './file-system.ts';
import { readGpt } from './gpt.ts';
import type { DiskBytes } from './disk-bytes.ts';
import type { MasterBootRecord } from './mbr.ts';
import { readMasterBootRecord, readMbr } from './mbr.ts';
import type { Partition } from './partition.ts';
import { SECTOR, wrongTable } from './partition.ts';

/** What a disk image is, as far as deploys must know. */
export interface DiskDescription {
  readonly bytes: number;
  readonly table: 'gpt' | 'mbr';
  /** Which firmware can start it from the disk; at least one. */
  readonly firmware: readonly ('bios' | 'uefi')[];
  readonly partitions: readonly { readonly number: number; readonly bytes: number; readonly holds: string }[];
  readonly root: {
    readonly partition: number;
    readonly fileSystem: 'ext4' | 'xfs' | 'btrfs';
    readonly uuid: string;
    /** It is the last on the disk, so that it can grow. */
    readonly isLast: boolean;
    /** Its initramfs is made with mdadm, as Debian's package has it; undefined where nobody could tell. */
    readonly hasMdadm: boolean | undefined;
  };
}

/**
 * Says what a raw disk holds, or why no machine would boot from it. Everything is read from the disk's own tables and
 * superblocks, in bounded time; nothing is mounted. `rootPartition`: where several partitions could be the root.
 *
 * Errors: `image.partitions` for a table that is damaged, lies or reaches beyond the disk; `image.file-system` for a file
 * system that does; `image.not-bootable` when no firmware would start it, or no root is found.
 */
export async function describeDisk(bytes: DiskBytes, rootPartition?: number): Promise<DiskDescription> {
  const record = await readMasterBootRecord(bytes);
  const table = await readTable(bytes, record);
  const looks: Look[] = [];
  for (const partition of table.partitions) looks.push({ partition, contents: await look(bytes, partition) });
  const firmware = await startedBy(bytes, { ...table, looks });
  if (firmware.length === 0) {
    throw notBootable(
      'No firmware would start it: it has neither an ESP with \\EFI\\BOOT\\BOOTX64.EFI nor boot code for BIOS',
    );
  }
  const root = rootOf(looks, rootPartition);
  return {
    bytes: bytes.size,
    table: table.kind,
    firmware,
    partitions: looks.map(({ partition, contents }) => ({
      number: partition.number,
      bytes: partition.bytes,
      holds: partition.purpose === 'bios-boot' ? 'bios-boot' : contents.kind,
    })),
    root: {
      partition: root.partition.number,
      fileSystem: root.contents.kind,
      uuid: root.contents.uuid,
      isLast: looks.every(({ partition }) => partition.offset <= root.partition.offset),
      hasMdadm: root.contents.kind === 'ext4' ? await extHas(bytesOf(bytes, root.partition), MDADM_HOOK) : undefined,
    },
  };
}

/** Without which a system does not find its root on an array (`images/ramdisk/mirror.sh`). */
const MDADM_HOOK = ['usr', 'share', 'initramfs-tools', 'hooks', 'mdadm'];

interface Look {
  readonly partition: Partition;
  readonly contents: Contents;
}

interface Table {
  readonly kind: 'gpt' | 'mbr';
  readonly record: MasterBootRecord;
  readonly partitions: readonly Partition[];
}

type Root = Look & { readonly contents: { readonly kind: 'ext4' | 'xfs' | 'btrfs'; readonly uuid: string } };

async function readTable(bytes: DiskBytes, record: MasterBootRecord | undefined): Promise<Table> {
  if (record === undefined) throw notBootable('It has no partition table');
  if (record.isProtective) return { kind: 'gpt', record, partitions: await readGpt(bytes) };
  // Firmware would go by the one, Linux by the other.
  if (await hasGpt(bytes)) throw wrongTable('is an MBR over a GPT that it does not protect');
  return { kind: 'mbr', record, partitions: await readMbr(bytes, record) };
}

async function hasGpt(bytes: DiskBytes): Promise<boolean> {
  return bytes.size >= 2 * SECTOR && (await bytes.at(SECTOR, 8)).toString('latin1') === 'EFI PART';
}

/** A BIOS boot partition holds code, no file system. */
async function look(bytes: DiskBytes, partition: Partition): Promise<Contents> {
  if (partition.purpose === 'bios-boot') return { kind: 'unknown' };
  return readContents(bytesOf(bytes, partition));
}

function bytesOf(bytes: DiskBytes, { offset, bytes: size }: Partition): DiskBytes {
  return { size, at: (at, length) => inside(bytes, { offset, size }, at, length) };
}

function inside(
  bytes: DiskBytes,
  { offset, size }: { offset: number; size: number },
  at: number | bigint,
  length: number,
): Promise<Buffer> {
  if (BigInt(at) + BigInt(length) > BigInt(size)) {
    throw new RackstartError('image.file-system', 'A file system refers to what lies beyond its partition.');
  }
  return bytes.at(BigInt(offset) + BigInt(at), length);
}

async function startedBy(
  bytes: DiskBytes,
  { kind, record, looks }: Table & { looks: readonly Look[] },
): Promise<('bios' | 'uefi')[]> {
  const esp = looks.some(({ partition, contents }) => {
    return partition.purpose === 'esp' && contents.kind === 'fat' && contents.hasLoader;
  });
  return [
    ...((await startsByBios(bytes, kind, record, looks)) ? (['bios'] as const) : []),
    ...(esp ? ['uefi' as const] : []),
  ];
}

/** Code in the boot record, and where a GPT has taken the place behind it, a partition for the code that this one loads. */
async function startsByBios(
  bytes: DiskBytes,
  kind: 'gpt' | 'mbr',
  { hasBootCode }: MasterBootRecord,
  looks: readonly Look[],
): Promise<boolean> {
  if (!hasBootCode) return false;
  if (kind === 'mbr') return true;
  const stage = looks.find(({ partition }) => partition.purpose === 'bios-boot');
  if (stage === undefined) return false;
  return (await bytes.at(stage.partition.offset, SECTOR)).some((byte) => byte !== 0);
}

/** The one that was named; else the one that the table calls root; else the only one that could be. Never the likeliest. */
function rootOf(looks: readonly Look[], named: number | undefined): Root {
  const possible = looks.filter(isPossibleRoot);
  if (named !== undefined) {
    const root = possible.find(({ partition }) => partition.number === named);
    if (root !== undefined) return root;
    throw notBootable(`Partition ${named} holds no root file system that can be grown: ${contentsOf(looks)}`);
  }
  const called = possible.filter(({ partition }) => partition.purpose === 'root');
  const candidates =
    called.length > 0 ? called : possible.filter(({ partition }) => partition.purpose !== 'extended-boot');
  const [root, other] = candidates;
  if (root === undefined) throw notBootable(`No root file system (ext4, xfs, btrfs) is on it: ${contentsOf(looks)}`);
  if (other === undefined) return root;
  const numbers = candidates.map(({ partition }) => partition.number).join(', ');
  throw notBootable(`Any of partitions ${numbers} could be its root: say which`);
}

function isPossibleRoot(look: Look): look is Root {
  return ['ext4', 'xfs', 'btrfs'].includes(look.contents.kind);
}

function contentsOf(looks: readonly Look[]): string {
  const words = looks.map(({ partition, contents }) => `${partition.number} ${contents.kind}`);
  return words.length === 0 ? 'it has no partitions' : words.join(', ');
}

function notBootable(why: string): RackstartError {
  return new RackstartError('image.not-bootable', `${why}.`);
}
