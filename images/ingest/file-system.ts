import { RackstartError } from '../../appliance/kernel/errors.ts';
import { readBtrfs } from './btrfs.ts';
import { readExt } from './ext.ts';
import { readFat } from './fat.ts';
import type { DiskBytes } from './disk-bytes.ts';
import { readXfs } from './xfs.ts';

/** What a partition holds, by its own superblock. */
export type Contents =
  | { readonly kind: 'ext4' | 'xfs' | 'btrfs'; readonly uuid: string }
  | { readonly kind: 'fat'; readonly hasLoader: boolean }
  | { readonly kind: 'lvm' | 'luks' | 'raid' | 'ext2' | 'swap' | 'unknown' };

/**
 * Looks at one partition. Each file system is known by its magic number, then held against its checksum and the size of the
 * partition: one that says it is larger was cut short. Two at once are refused, since it would depend on the reader which one
 * is mounted. Errors: `image.file-system`.
 */
export async function readContents(partition: DiskBytes): Promise<Contents> {
  const found: Contents[] = [];
  for (const read of readers) {
    const contents = await read(partition);
    if (contents !== undefined) found.push(contents);
  }
  const [first = { kind: 'unknown' } as const, second] = found;
  if (second === undefined) return first;
  throw new RackstartError('image.file-system', `A partition holds both ${first.kind} and ${second.kind}.`);
}

const readers: readonly ((partition: DiskBytes) => Promise<Contents | undefined>)[] = [
  readExt,
  readXfs,
  readBtrfs,
  readFat,
  readOther,
];

/** What no root file system is found in, to tell people so. */
async function readOther(partition: DiskBytes): Promise<Contents | undefined> {
  for (const { kind, at, magic } of others) {
    if (at + magic.length > partition.size) continue;
    if ((await partition.at(at, magic.length)).equals(magic)) return { kind };
  }
  return undefined;
}

const others: readonly { kind: 'lvm' | 'luks' | 'raid' | 'swap'; at: number; magic: Buffer }[] = [
  // A label lies in one of the first four sectors; LVM itself writes it to the second.
  ...[0, 512, 1024, 1536].map((at) => ({ kind: 'lvm' as const, at, magic: Buffer.from('LABELONE') })),
  { kind: 'luks', at: 0, magic: Buffer.from('LUKS\xba\xbe', 'latin1') },
  // md, version 1.1 at the begin and 1.2 at 4 KiB.
  ...[0, 4096].map((at) => ({ kind: 'raid' as const, at, magic: Buffer.from('fc4e2ba9', 'hex') })),
  { kind: 'swap', at: 4086, magic: Buffer.from('SWAPSPACE2') },
];
