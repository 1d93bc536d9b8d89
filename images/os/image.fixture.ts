import { execFile } from 'node:child_process';
import { closeSync, existsSync, mkdtempSync, openSync, readSync, rmSync, statSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Test } from 'tap';

import type { OsImage } from './build.ts';
import { buildOsImage } from './build.ts';

export const cacheDirectory = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'rackstart');

/** Why images can't be tested here. */
export const skip =
  process.getuid?.() !== 0
    ? 'needs root, to build an image when none is there'
    : !existsSync('/usr/bin/mmdebstrap') && 'Debian package mmdebstrap is missing: npm test installs it';

/** Types of partitions. */
export const BIOS = '21686148-6449-6E6F-744E-656564454649';
export const ESP = 'C12A7328-F81F-11D2-BA4B-00A0C93EC93B';
export const ROOT = '4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709';

export interface Partition {
  number: number;
  start: number;
  size: number;
  type: string;
  uuid: string;
}

export interface OpenedImage {
  readonly image: OsImage;
  /** In the order of the disk. */
  readonly partitions: readonly Partition[];
  /** Of its root file system. */
  readonly catFile: (path: string) => Promise<string>;
  /** Of its root file system: `/inode/mode/uid/gid/NAME/size/` each. */
  readonly lsDirectory: (path: string) => Promise<string>;
}

/** Checks what holds for every kind, then gives what a test asks of its own. */
export async function openImage(t: Test, kind: { name: string; cloudInit: boolean }): Promise<OpenedImage> {
  const image = await buildOsImage({ cacheDirectory, ...kind, progress: (line) => t.comment(line) });
  const work = mkdtempSync(join(tmpdir(), 'rs-os-image-'));
  t.teardown(() => rmSync(work, { recursive: true, force: true }));
  const disk = join(work, 'disk.raw');
  await run('zstd', ['-q', '-d', '--sparse', image.path, '-o', disk]);
  const { label, partitions } = await partitionsOf(disk);
  const [bios, esp, root] = partitions;
  if (!bios || !esp || !root) throw new Error('it has fewer than three partitions');

  t.equal((await run('sha256sum', [image.path])).stdout.split(' ')[0], image.sha256);
  t.equal(statSync(image.path).size, image.bytes);
  t.equal(statSync(disk).size, image.rawBytes);

  t.equal(label, 'gpt');
  t.equal(root.number, image.rootPartition, 'the root comes last on the disk');
  t.equal(partitions.length, 3);
  await hasBootLoaders(t, disk, bios, esp);

  // libext2fs finds a file system within a file.
  const file = `${disk}?offset=${root.start * 512}`;
  const debugfs = async (command: string) => (await run('debugfs', ['-R', command, file])).stdout;
  const opened = {
    image,
    partitions,
    catFile: (path: string) => debugfs(`cat ${path}`),
    lsDirectory: (path: string) => debugfs(`ls -p ${path}`),
  };
  await t.resolves(run('e2fsck', ['-f', '-n', file]), 'its root file system is clean');
  await holdsNoSecret(t, opened);
  return opened;
}

/** For BIOS and for UEFI. */
async function hasBootLoaders(t: Test, disk: string, bios: Partition, esp: Partition): Promise<void> {
  const listing = await run('mdir', ['-b', '-i', `${disk}@@${esp.start * 512}`, '::/EFI/BOOT/BOOTX64.EFI']);
  t.match(listing.stdout, 'BOOTX64.EFI');
  const sector = bytesAt(disk, 0, 512);
  t.equal(sector.readUInt16LE(510), 0xaa55);
  t.equal(sector.readBigUInt64LE(0x5c), BigInt(bios.start), 'the boot sector names the first sector of the core image');
  t.equal(bytesAt(disk, bios.start * 512, 512).readBigUInt64LE(0x1f4), BigInt(bios.start + 1));
}

/** And no identity: what is the same on all servers is nobody's. */
async function holdsNoSecret(t: Test, { image, catFile, lsDirectory }: OpenedImage): Promise<void> {
  t.equal(await catFile('/etc/machine-id'), '');
  t.notMatch(await lsDirectory('/etc/ssh'), /ssh_host_/);
  t.notMatch(await lsDirectory('/etc'), /\/\.resolv\.conf/, 'nor where the host asked for names');
  t.notMatch(await lsDirectory('/etc/systemd/network'), /\.network/);
  t.match(await catFile('/etc/ssh/sshd_config.d/rackstart.conf'), /PasswordAuthentication no/);
  t.match(await catFile('/etc/shadow'), /^root:\*:/m);
  t.match(await catFile('/boot/grub/grub.cfg'), ` ro ${image.kernelArgs}\n`);
}

async function partitionsOf(disk: string): Promise<{ label: string; partitions: Partition[] }> {
  const { partitiontable } = JSON.parse((await run('sfdisk', ['-J', disk])).stdout) as {
    partitiontable: { label: string; partitions: (Omit<Partition, 'number'> & { node: string })[] };
  };
  const partitions = partitiontable.partitions
    .map(({ node, ...rest }) => ({ ...rest, number: Number(node.slice(disk.length)) }))
    .sort((a, b) => a.start - b.start);
  return { label: partitiontable.label, partitions };
}

function bytesAt(path: string, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  const file = openSync(path, 'r');
  readSync(file, bytes, 0, length, offset);
  closeSync(file);
  return bytes;
}

const run = promisify(execFile);
