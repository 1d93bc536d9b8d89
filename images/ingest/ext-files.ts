import type { DiskBytes } from './disk-bytes.ts';
import { within } from './superblock.ts';

/**
 * Whether a file is in an ext4 file system, by the path from its root, without mounting it (Linux,
 * Documentation/filesystems/ext4: group_descr.rst, inodes.rst, ifork.rst, directory.rst). Undefined where that can't be told:
 * features that change where things are, a journal that is still to be replayed, links on the way, tables that make no sense.
 * It is for advice: what it says "no" to is refused before a machine is taken for it, all else is found out there.
 */
export async function extHas(partition: DiskBytes, path: readonly string[]): Promise<boolean | undefined> {
  const geometry = await readGeometry(partition);
  if (geometry === undefined) return undefined;
  let number = ROOT_INODE;
  for (const [depth, name] of path.entries()) {
    const entries = await readDirectory(partition, geometry, number);
    const found = entries?.get(name);
    if (entries === undefined) return undefined;
    if (found === undefined) return false;
    if (depth === path.length - 1) return true;
    const inode = await readInode(partition, geometry, found);
    // A link leads elsewhere; anything else has nothing in it.
    if (inode === undefined || inode.type === LINK) return undefined;
    if (inode.type !== DIRECTORY) return false;
    number = found;
  }
  return undefined;
}

interface Geometry {
  readonly blockSize: number;
  readonly firstDescriptor: number;
  readonly descriptorSize: number;
  readonly inodeSize: number;
  readonly inodesPerGroup: number;
  readonly inodes: number;
}

async function readGeometry(partition: DiskBytes): Promise<Geometry | undefined> {
  const block = await within(partition, 1024, 1024);
  if (block?.readUInt16LE(0x38) !== 0xef53) return undefined;
  const incompatible = block.readUInt32LE(0x60);
  if ((incompatible & ~KNOWN_FEATURES) !== 0) return undefined;
  const isWide = (incompatible & SIXTY_FOUR_BIT) !== 0;
  const logBlockSize = block.readUInt32LE(0x18);
  const [inodeSize, descriptorSize] = [block.readUInt16LE(0x58), isWide ? block.readUInt16LE(0xfe) : 32];
  const inodesPerGroup = block.readUInt32LE(0x28);
  if (logBlockSize > 6 || inodesPerGroup === 0 || inodeSize < 128 || descriptorSize < 32) return undefined;
  const blockSize = 1024 * 2 ** logBlockSize;
  const firstDescriptor = (block.readUInt32LE(0x14) + 1) * blockSize;
  return { blockSize, firstDescriptor, descriptorSize, inodeSize, inodesPerGroup, inodes: block.readUInt32LE(0) };
}

interface Inode {
  readonly type: number;
  readonly bytes: number;
  readonly flags: number;
  /** The root of its extents. */
  readonly extents: Buffer;
}

async function readInode(partition: DiskBytes, geometry: Geometry, number: number): Promise<Inode | undefined> {
  const { blockSize, firstDescriptor, descriptorSize, inodeSize, inodesPerGroup, inodes } = geometry;
  if (number < ROOT_INODE || number > inodes) return undefined;
  const group = Math.floor((number - 1) / inodesPerGroup);
  const descriptor = await within(partition, firstDescriptor + group * descriptorSize, descriptorSize);
  if (descriptor === undefined) return undefined;
  const high = descriptorSize < 64 ? 0 : descriptor.readUInt32LE(0x28);
  const table = (high * 2 ** 32 + descriptor.readUInt32LE(8)) * blockSize;
  const inode = await within(partition, table + ((number - 1) % inodesPerGroup) * inodeSize, 128);
  if (inode === undefined) return undefined;
  const bytes = inode.readUInt32LE(0x6c) * 2 ** 32 + inode.readUInt32LE(4);
  const flags = inode.readUInt32LE(0x20);
  return { type: inode.readUInt16LE(0) & TYPE, bytes, flags, extents: inode.subarray(0x28, 0x28 + 60) };
}

/** Names and the inodes that they mean; also of a directory with an index, whose blocks of hashes look like empty ones. */
async function readDirectory(
  partition: DiskBytes,
  geometry: Geometry,
  number: number,
): Promise<Map<string, number> | undefined> {
  const inode = await readInode(partition, geometry, number);
  if (inode?.type !== DIRECTORY || (inode.flags & EXTENTS) === 0 || (inode.flags & ELSEWHERE) !== 0) return undefined;
  const { blockSize } = geometry;
  if (inode.bytes === 0 || inode.bytes > MOST_OF_DIRECTORY || inode.bytes % blockSize !== 0) return undefined;
  const places = await readExtents(partition, blockSize, inode.extents, inode.bytes / blockSize);
  if (places?.length !== inode.bytes / blockSize) return undefined;
  const names = new Map<string, number>();
  for (const place of places) {
    const block = await within(partition, place * blockSize, blockSize);
    if (block === undefined || !addEntries(names, block)) return undefined;
  }
  return names;
}

function addEntries(names: Map<string, number>, block: Buffer): boolean {
  for (let at = 0; at < block.length;) {
    if (block.length - at < 8) return false;
    const [inode, length, nameLength] = [
      block.readUInt32LE(at),
      block.readUInt16LE(at + 4) || block.length,
      block.readUInt8(at + 6),
    ];
    if (length < 8 || length % 4 !== 0 || at + length > block.length || 8 + nameLength > length) return false;
    if (inode !== 0) names.set(block.toString('utf8', at + 8, at + 8 + nameLength), inode);
    at += length;
  }
  return true;
}

/** Where the first blocks of a file are, `most` of them; undefined for holes, and for what is no tree of extents. */
async function readExtents(
  partition: DiskBytes,
  blockSize: number,
  root: Buffer,
  most: number,
): Promise<number[] | undefined> {
  const places: number[] = [];
  let level: Buffer[] = [root];
  for (let depth = root.readUInt16LE(6); level.length > 0; depth--) {
    const next: Buffer[] = [];
    for (const node of level) {
      const entries = node.readUInt16LE(2);
      const isExtents = node.readUInt16LE(0) === 0xf30a && node.readUInt16LE(6) === depth;
      if (!isExtents || depth > DEEPEST || 12 * (entries + 1) > node.length) return undefined;
      for (let entry = 1; entry <= entries; entry++) {
        const at = 12 * entry;
        if (depth > 0) {
          const below = node.readUInt16LE(at + 8) * 2 ** 32 + node.readUInt32LE(at + 4);
          const block = next.length < most ? await within(partition, below * blockSize, blockSize) : undefined;
          if (block === undefined) return undefined;
          next.push(block);
          continue;
        }
        const [length, first] = [
          node.readUInt16LE(at + 4),
          node.readUInt16LE(at + 6) * 2 ** 32 + node.readUInt32LE(at + 8),
        ];
        if (node.readUInt32LE(at) !== places.length || length === 0 || places.length + length > most) return undefined;
        for (let block = 0; block < length; block++) places.push(first + block);
      }
    }
    level = next;
  }
  return places;
}

const ROOT_INODE = 2;
const TYPE = 0xf000;
const DIRECTORY = 0x4000;
const LINK = 0xa000;

/** Of an inode. ELSEWHERE: encrypted, or its content within the inode. */
const EXTENTS = 0x8_0000;
const ELSEWHERE = 0x1000_0800;

/** Larger ones are none that a system has where we look. */
const MOST_OF_DIRECTORY = 1024 ** 2;
const DEEPEST = 5;

const SIXTY_FOUR_BIT = 0x80;
/** Kinds in directories, extents, 64 bits, flexible groups, values in inodes, a seed of checksums, large directories. */
const KNOWN_FEATURES = 0x2 | 0x40 | SIXTY_FOUR_BIT | 0x200 | 0x400 | 0x2000 | 0x4000;
