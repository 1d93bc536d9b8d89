import { execFileSync } from 'node:child_process';
import { existsSync, openSync, closeSync, readFileSync, rmSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { crc32 } from 'node:zlib';

const MIB = 1024 ** 2;

export type RootFileSystem = 'ext4' | 'ext3' | 'xfs' | 'btrfs' | 'swap';

/** Programs that make the disks below; undefined when all are there. */
export function diskToolsMissing(): string | undefined {
  const programs = [
    '/usr/sbin/sfdisk',
    '/usr/sbin/mke2fs',
    '/usr/sbin/mkfs.vfat',
    '/usr/sbin/mkfs.xfs',
    '/usr/sbin/mkfs.btrfs',
  ];
  const missing = [...programs, '/usr/bin/mcopy'].filter((program) => !existsSync(program));
  return missing.length === 0 ? undefined : `${missing.join(', ')} is missing`;
}

/**
 * A disk as the tools of Debian make one: GPT with a BIOS boot partition (1), an ESP with a loader (2) and a root (3), or MBR
 * with the root as its only partition. Boot code is a byte in each place where it belongs.
 */
export function makeDisk(file: string, table: 'gpt' | 'mbr' = 'gpt', root: RootFileSystem = 'ext4'): void {
  const rootMib = { ext4: 16, ext3: 16, xfs: 320, btrfs: 120, swap: 16 }[root];
  const rootAt = table === 'gpt' ? 4 : 1;
  truncate(file, (rootAt + rootMib + 1) * MIB);
  const layout =
    table === 'gpt'
      ? [
          'label: gpt',
          'start=1MiB, size=1MiB, type=21686148-6449-6E6F-744E-656564454649',
          'start=2MiB, size=2MiB, type=U',
        ]
      : ['label: dos'];
  const type = table === 'gpt' ? '4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709' : '83';
  partition(file, [...layout, `start=${rootAt}MiB, size=${rootMib}MiB, type=${type}, bootable`]);
  if (table === 'gpt') {
    write(file, MIB, Buffer.from('core'));
    place(file, 2 * MIB, 2 * MIB, makeEsp);
  }
  write(file, 0, Buffer.from('\xeb\x63', 'latin1'));
  place(file, rootAt * MIB, rootMib * MIB, (part) => makeFileSystem(part, root));
}

/** By sfdisk, from lines as it takes them. */
export function partition(file: string, lines: readonly string[]): void {
  execFileSync('/usr/sbin/sfdisk', ['-q', '--no-reread', '--no-tell-kernel', file], {
    input: `${lines.join('\n')}\n`,
    stdio: 'pipe',
  });
}

/** Makes a file of that size by `make`, and copies it to its place. */
export function place(file: string, offset: number, bytes: number, make: (part: string) => void): void {
  const part = `${file}.part`;
  rmSync(part, { force: true });
  truncate(part, bytes);
  make(part);
  const args = [`if=${part}`, `of=${file}`, 'bs=64K', `seek=${offset}`, 'oflag=seek_bytes', 'conv=notrunc,sparse'];
  execFileSync('dd', [...args, 'status=none']);
  rmSync(part);
}

export function write(file: string, offset: number, bytes: Buffer): void {
  const handle = openSync(file, 'r+');
  writeSync(handle, bytes, 0, bytes.length, offset);
  closeSync(handle);
}

export function makeFileSystem(part: string, kind: RootFileSystem): void {
  const command = {
    ext4: ['mke2fs', '-q', '-t', 'ext4'],
    ext3: ['mke2fs', '-q', '-t', 'ext3'],
    xfs: ['mkfs.xfs', '-q'],
    btrfs: ['mkfs.btrfs', '-q'],
    swap: ['mkswap', '-q'],
  }[kind];
  const [program = '', ...args] = command;
  execFileSync(`/usr/sbin/${program}`, [...args, part], { stdio: 'pipe' });
}

export function makeEsp(part: string): void {
  execFileSync('/usr/sbin/mkfs.vfat', [part], { stdio: 'pipe' });
  execFileSync('mmd', ['-i', part, '::/EFI', '::/EFI/BOOT'], { stdio: 'pipe' });
  execFileSync('mcopy', ['-i', part, '-', '::/EFI/BOOT/BOOTX64.EFI'], { input: 'MZ', stdio: 'pipe' });
}

/** Changes a disk with GPT, and signs both tables again: what is wrong with them then is not their checksums. */
export function resign(file: string, change: (disk: Buffer) => void): void {
  const disk = readFileSync(file);
  change(disk);
  signGpt(disk);
  writeFileSync(file, disk);
}

/** Puts right checksums into both headers of a GPT, wherever the first says the other is. */
function signGpt(disk: Buffer): void {
  for (const at of [512, Number(disk.readBigUInt64LE(512 + 32)) * 512]) {
    if (at + 512 > disk.length) continue;
    const header = disk.subarray(at, at + 512);
    const entriesAt = Number(header.readBigUInt64LE(72)) * 512;
    const entries = disk.subarray(entriesAt, entriesAt + header.readUInt32LE(80) * header.readUInt32LE(84));
    header.writeUInt32LE(crc32(entries), 88);
    header.writeUInt32LE(0, 16);
    header.writeUInt32LE(crc32(header.subarray(0, Math.min(512, header.readUInt32LE(12)))), 16);
  }
}

function truncate(file: string, bytes: number): void {
  writeFileSync(file, '');
  truncateSync(file, bytes);
}
