import { RackstartError } from '../../appliance/kernel/errors.ts';
import type { DiskFormat, DiskHeader } from './disk-header.ts';
import type { DiskBytes } from './disk-bytes.ts';
import { readQcow2 } from './qcow2.ts';
import { readVhdx } from './vhdx.ts';
import { readVmdk } from './vmdk.ts';

/**
 * Holds the file against the format that was declared: its header must be a right one of that format, of a variant that
 * holds a whole disk in this one file.
 *
 * Errors: `image.format` when it is something else; `image.external` when it refers to other files; `image.encrypted`;
 * `image.unsupported` for variants that are not taken; `image.too-large` for a disk over `mostBytes`; else `image.invalid`.
 */
export async function readHeader(bytes: DiskBytes, declared: DiskFormat, mostBytes: number): Promise<DiskHeader> {
  await refuseOtherFormat(bytes, declared);
  const header = await readers[declared](bytes);
  if (header.virtualSize === 0) throw new RackstartError('image.invalid', 'The image holds a disk of no bytes.');
  if (header.virtualSize > mostBytes) {
    throw new RackstartError(
      'image.too-large',
      `The image holds a disk of ${header.virtualSize} bytes; at most ${mostBytes} are taken.`,
      { details: { virtualSize: header.virtualSize, mostBytes } },
    );
  }
  return header;
}

const readers: Readonly<Record<DiskFormat, (bytes: DiskBytes) => Promise<DiskHeader>>> = {
  raw: readRaw,
  qcow2: readQcow2,
  vmdk: readVmdk,
  vhdx: readVhdx,
};

// A raw disk has no header: what is wrong with it is found in its partition table.
async function readRaw({ size }: DiskBytes): Promise<DiskHeader> {
  if (size % SECTOR !== 0)
    throw new RackstartError('image.invalid', `A raw disk has whole sectors, not ${size} bytes.`);
  return { format: 'raw', variant: 'raw', virtualSize: size };
}

const SECTOR = 512;

/** What files begin with that are no raw disks: one of these that is declared raw would wait for a tool that guesses. */
const beginnings: readonly { readonly what: string; readonly magic: string; readonly format?: DiskFormat }[] = [
  { what: 'qcow2', magic: 'QFI\xfb', format: 'qcow2' },
  { what: 'VMDK', magic: 'KDMV', format: 'vmdk' },
  { what: 'a VMDK descriptor', magic: '# Disk DescriptorFile', format: 'vmdk' },
  { what: 'an ESX sparse VMDK', magic: 'COWD', format: 'vmdk' },
  { what: 'VHDX', magic: 'vhdxfile', format: 'vhdx' },
  { what: 'VHD', magic: 'conectix' },
  { what: 'QED', magic: 'QED\0' },
  { what: 'compressed by zstd', magic: '\x28\xb5\x2f\xfd' },
  { what: 'compressed by gzip', magic: '\x1f\x8b' },
  { what: 'compressed by xz', magic: '\xfd7zXZ\0' },
  { what: 'compressed by bzip2', magic: 'BZh' },
  { what: 'a zip archive', magic: 'PK\x03\x04' },
];

async function refuseOtherFormat(bytes: DiskBytes, declared: DiskFormat): Promise<void> {
  const start = (await bytes.at(0, Math.min(bytes.size, LONGEST_MAGIC))).toString('latin1');
  const found = beginnings.find(({ magic }) => start.startsWith(magic));
  if (found?.format === declared || (found === undefined && declared === 'raw')) return;
  const seen = found === undefined ? 'begins like none' : `is ${found.what}`;
  throw new RackstartError('image.format', `The image was declared as ${declared}, and ${seen}.`, {
    details: { declared, found: found?.what ?? 'unknown' },
  });
}

const LONGEST_MAGIC = 21;
