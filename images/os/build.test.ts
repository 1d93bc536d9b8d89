import { execFile } from 'node:child_process';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, readSync, rmSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { test } from 'tap';

import { buildOsImage } from './build.ts';

const MIB = 1024 * 1024;
const cacheDirectory = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'rackstart');
const run = promisify(execFile);
const skip =
  process.getuid?.() !== 0
    ? 'needs root, to build an image when none is there'
    : !existsSync('/usr/bin/mmdebstrap') && 'Debian package mmdebstrap is missing: npm test installs it';

test('an OS image is what it says it is', { skip, timeout: 600_000 }, async (t) => {
  const progress = (line: string) => t.comment(line);
  const image = await buildOsImage({ cacheDirectory, name: 'debian-12', progress });
  const work = mkdtempSync(join(tmpdir(), 'rs-os-image-'));
  t.teardown(() => rmSync(work, { recursive: true, force: true }));
  const disk = join(work, 'disk.raw');
  await run('zstd', ['-q', '-d', '--sparse', image.path, '-o', disk]);
  const table = JSON.parse((await run('sfdisk', ['-J', disk])).stdout) as SfdiskTable;
  const [bios, esp, root, ...more] = table.partitiontable.partitions;

  await t.test('another build finds it done', async (t) => {
    const again = await buildOsImage({ cacheDirectory, name: 'debian-12', progress: () => t.fail('nothing is built') });
    t.same(again, image);
    t.equal((await run('sha256sum', [image.path])).stdout.split(' ')[0], image.sha256);
    t.equal(readFileSync(image.path).length, image.bytes);
  });

  await t.test('its partitions are those declared, the root last', (t) => {
    t.equal(table.partitiontable.label, 'gpt');
    t.equal(bios?.type, '21686148-6449-6E6F-744E-656564454649');
    t.equal(esp?.type, 'C12A7328-F81F-11D2-BA4B-00A0C93EC93B');
    t.equal(root?.type, '4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709');
    t.equal(root?.node, `${disk}${image.rootPartition}`);
    t.same(more, []);
    t.end();
  });

  await t.test('BIOS and UEFI both find a boot loader', async (t) => {
    const listing = await run('mdir', ['-b', '-i', `${disk}@@${esp!.start * 512}`, '::/EFI/BOOT/BOOTX64.EFI']);
    t.match(listing.stdout, 'BOOTX64.EFI');
    const sector = bytesAt(disk, 0, 512);
    t.equal(sector.readUInt16LE(510), 0xaa55);
    t.equal(
      sector.readBigUInt64LE(0x5c),
      BigInt(bios!.start),
      'the boot sector names the first sector of the core image',
    );
    t.equal(bytesAt(disk, bios!.start * 512, 512).readBigUInt64LE(0x1f4), BigInt(bios!.start + 1));
  });

  await t.test('its root file system is clean, and holds no secret and no identity', async (t) => {
    const file = join(work, 'root.img');
    const [from, count] = [root!.start / (MIB / 512), root!.size / (MIB / 512)].map(String);
    await run('dd', [`if=${disk}`, `of=${file}`, 'bs=1M', `skip=${from}`, `count=${count}`, 'conv=sparse']);
    await t.resolves(run('e2fsck', ['-f', '-n', file]));
    const debugfs = async (command: string) => (await run('debugfs', ['-R', command, file])).stdout;
    t.equal(await debugfs('cat /etc/machine-id'), '');
    t.notMatch(await debugfs('ls -p /etc/ssh'), /ssh_host_/);
    t.notMatch(await debugfs('ls -p /etc/systemd/network'), /\.network/);
    t.match(await debugfs('cat /etc/ssh/sshd_config.d/rackstart.conf'), /PasswordAuthentication no/);
    t.match(await debugfs('cat /etc/shadow'), /^root:\*:/m);
    t.notMatch(await debugfs('ls -p /etc'), /\/resolv\.conf\//);
  });
});

interface SfdiskTable {
  partitiontable: { label: string; partitions: { node: string; start: number; size: number; type: string }[] };
}

function bytesAt(path: string, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  const file = openSync(path, 'r');
  readSync(file, bytes, 0, length, offset);
  closeSync(file);
  return bytes;
}
