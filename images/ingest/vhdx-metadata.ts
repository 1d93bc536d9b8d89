import { RackstartError } from '../../appliance/kernel/errors.ts';
import type { DiskBytes } from './disk-bytes.ts';

export interface VhdxMetadata {
  readonly virtualSize: number;
  readonly blockSize: number;
}

/**
 * The metadata region of a VHDX ([MS-VHDX] §2.6): a table of 64 KiB, and the items that it points to behind it. Errors:
 * `image.external` for a differencing disk; `image.unsupported` for sectors of 4 KiB and for items not known here that must be.
 */
export async function readVhdxMetadata(
  bytes: DiskBytes,
  region: { readonly offset: number; readonly length: number },
): Promise<VhdxMetadata> {
  const items = await readItems(bytes, region);
  const parameters = await items.read('file parameters', 8);
  const [blockSize, flags] = [parameters.readUInt32LE(0), parameters.readUInt32LE(4)];
  if ((flags & HAS_PARENT) !== 0 || items.has('parent locator')) {
    throw new RackstartError(
      'image.external',
      'The VHDX holds what changed since a parent disk: merge it into its parent first (Merge-VHD), or convert it whole.',
    );
  }
  if (blockSize < MIB || blockSize > 256 * MIB || (blockSize & (blockSize - 1)) !== 0) {
    throw invalid(`has blocks of ${blockSize} bytes`);
  }
  const sectorSize = (await items.read('logical sector size', 4)).readUInt32LE(0);
  // A partition table counts in sectors: the same bytes mean another table on a disk of 512.
  if (sectorSize === 4096) {
    throw new RackstartError('image.unsupported', 'The VHDX has sectors of 4096 bytes; disks of 512 alone are taken.');
  }
  if (sectorSize !== 512) throw invalid(`has sectors of ${sectorSize} bytes`);
  const virtualSize = (await items.read('virtual disk size', 8)).readBigUInt64LE(0);
  if (virtualSize > MOST_BYTES || virtualSize % 512n !== 0n)
    throw invalid(`says that its disk has ${virtualSize} bytes`);
  return { virtualSize: Number(virtualSize), blockSize };
}

interface Items {
  has(name: ItemName): boolean;
  read(name: ItemName, length: number): Promise<Buffer>;
}

async function readItems(bytes: DiskBytes, region: { offset: number; length: number }): Promise<Items> {
  if (region.length < TABLE_BYTES) throw invalid('has a metadata region that is too short');
  const head = await bytes.at(region.offset, 32);
  if (head.toString('latin1', 0, 8) !== 'metadata') throw invalid('has no metadata table');
  const count = head.readUInt16LE(10);
  if (count > MOST_ITEMS) throw invalid(`has ${count} metadata items`);
  const table = await bytes.at(region.offset + 32, count * 32);
  const found = new Map<string, { offset: number; length: number }>();
  for (let at = 0; at < table.length; at += 32) {
    const id = table.toString('hex', at, at + 16);
    const [offset, length] = [table.readUInt32LE(at + 16), table.readUInt32LE(at + 20)];
    if (found.has(id)) throw invalid('has a metadata item twice');
    if (!known.has(id) && (table.readUInt32LE(at + 24) & IS_REQUIRED) !== 0) {
      throw new RackstartError('image.unsupported', `The VHDX needs metadata (${id}) that is not known here.`);
    }
    // §2.6.1.2: an item lies behind the table and within the region, or is empty with both fields zero.
    const isEmpty = offset === 0 && length === 0;
    if (!isEmpty && (offset < TABLE_BYTES || offset + length > region.length)) {
      throw invalid('has a metadata item outside of its region');
    }
    found.set(id, { offset, length });
  }
  return {
    has: (name) => found.has(ITEMS[name]),
    read: async (name, length) => {
      const item = found.get(ITEMS[name]);
      if (item?.length !== length) throw invalid(`has no ${name}`);
      return bytes.at(region.offset + item.offset, length);
    },
  };
}

type ItemName = keyof typeof ITEMS;

// As they lie in the file; §2.6.2.
const ITEMS = {
  // CAA16737-FA36-4D43-B3B6-33F0AA44E76B
  'file parameters': '3767a1ca36fa434db3b633f0aa44e76b',
  // 2FA54224-CD1B-4876-B211-5DBED83BF4B8
  'virtual disk size': '2442a52f1bcd7648b2115dbed83bf4b8',
  // 8141BF1D-A96F-4709-BA47-F233A8FAAB5F
  'logical sector size': '1dbf41816fa90947ba47f233a8faab5f',
  // CDA348C7-445D-4471-9CC9-E9885251C556
  'physical sector size': 'c748a3cd5d4471449cc9e9885251c556',
  // BECA12AB-B2E6-4523-93EF-C309E000C746
  'page 83 data': 'ab12cabee6b2234593efc309e000c746',
  // A8D35F2D-B30B-454D-ABF7-D3D84834AB0C
  'parent locator': '2d5fd3a80bb34d45abf7d3d84834ab0c',
} as const;
const known = new Set<string>(Object.values(ITEMS));
const HAS_PARENT = 2;
const IS_REQUIRED = 4;
const TABLE_BYTES = 64 * 1024;
const MOST_ITEMS = 2047;
const MIB = 1024 ** 2;
// §2.6.2.2: 64 TiB.
const MOST_BYTES = 64n * 1024n ** 4n;

function invalid(what: string): RackstartError {
  return new RackstartError('image.invalid', `The VHDX ${what}.`);
}
