import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

import type { Test } from 'tap';
import { test } from 'tap';

import { draw } from '../../appliance/kernel/seeded.ts';
import { boundedBytes } from './disk-bytes.ts';
import { diskToolsMissing } from './disk.fixture.ts';
import { extHas } from './ext-files.ts';
import { scratch } from './qemu-img.fixture.ts';

const skip = diskToolsMissing() ?? false;
const HOOK = 'usr/share/initramfs-tools/hooks/mdadm';

void test('a file is found by its path, in file systems of every size of block', { skip }, async (t) => {
  const many = Array.from({ length: 3_000 }, (_, number) => `usr/share/many/a-file-with-quite-a-long-name-${number}`);
  for (const options of [
    ['-b', '1024'],
    ['-b', '4096'],
    ['-b', '1024', '-O', '^64bit'],
    ['-b', '2048', '-I', '128', '-O', '^metadata_csum,^flex_bg,^dir_index'],
  ]) {
    const file = extOf(t, [HOOK, ...many, 'usr/share/initramfs-tools/hooks/other'], options);
    // mke2fs makes no index; this is what a running system does.
    execFileSync('/usr/sbin/e2fsck', ['-fyD', file], { stdio: 'pipe' });
    const has = (path: string) => extHas(bytesOf(readFileSync(file)), path.split('/'));
    const what = options.join(' ');
    t.equal(await has(HOOK), true, what);
    t.equal(await has(many[2_345]!), true, `${what}: one of many`);
    t.equal(await has('usr'), true);
    for (const none of ['usr/share/initramfs-tools/hooks/mdad', 'usr/bin/mdadm', `${HOOK}/more`, 'mdadm', '']) {
      t.equal(await has(none), false, `${what}: ${none}`);
    }
  }
});

void test('what can not be told from tables alone is not told', { skip }, async (t) => {
  const file = extOf(t, [HOOK], ['-b', '1024'], { bin: 'usr' });
  const has = (path = HOOK) => extHas(bytesOf(readFileSync(file)), path.split('/'));
  t.equal(await has(), true);
  t.equal(await has('bin/mdadm'), undefined, 'a link leads elsewhere');
  execFileSync('/usr/sbin/debugfs', ['-w', '-R', 'feature needs_recovery', file], { stdio: 'pipe' });
  t.equal(await has(), undefined, 'its journal is to be replayed');
  const old = scratch(t)('ext3');
  writeFileSync(old, '');
  truncateSync(old, 4 * 1024 ** 2);
  execFileSync('/usr/sbin/mke2fs', ['-q', '-t', 'ext3', old], { stdio: 'pipe' });
  t.equal(await extHas(bytesOf(readFileSync(old)), ['usr']), undefined, 'its directories are in no extents');
  t.equal(await extHas(bytesOf(Buffer.alloc(8_192)), ['usr']), undefined, 'it is no file system');
});

void test('damaged tables lead nowhere: every answer comes soon, and is an answer', { skip }, async (t) => {
  const bytes = readFileSync(extOf(t, [HOOK], ['-b', '1024', '-O', '^metadata_csum']));
  let drawn = 0;
  const below = (most: number) => Math.floor(draw('damaged ext4', drawn++) * most);
  const told = new Map<boolean | undefined, number>();
  const used = Array.from({ length: bytes.length / 1_024 }, (_, block) => block * 1_024).filter((at) =>
    bytes.subarray(at, at + 1_024).some((byte) => byte !== 0),
  );
  for (let round = 0; round < 3_000; round++) {
    const places = Array.from({ length: 3 }, () => used[below(used.length)]! + below(1_024));
    const before = places.map((at) => bytes[at]!);
    for (const at of places) bytes.writeUInt8([0, 0xff, 1, 0x80, below(256)][below(5)]!, at);
    const answer = await extHas(bytesOf(bytes), HOOK.split('/'));
    told.set(answer, (told.get(answer) ?? 0) + 1);
    places.forEach((at, index) => bytes.writeUInt8(before[index]!, at));
  }
  t.ok((told.get(true) ?? 0) > 0 && (told.get(undefined) ?? 0) > 0, JSON.stringify([...told]));
});

/** An ext4 with these files, and links. */
function extOf(
  t: Test,
  files: readonly string[],
  options: readonly string[],
  links: Record<string, string> = {},
): string {
  const path = scratch(t);
  for (const file of files) {
    mkdirSync(dirname(join(path('tree'), file)), { recursive: true });
    writeFileSync(join(path('tree'), file), '');
  }
  for (const [link, to] of Object.entries(links)) symlinkSync(to, join(path('tree'), link));
  writeFileSync(path('ext4'), '');
  truncateSync(path('ext4'), 16 * 1024 ** 2);
  const inodes = String(files.length + 1_000);
  execFileSync('/usr/sbin/mke2fs', ['-q', '-t', 'ext4', ...options, '-N', inodes, '-d', path('tree'), path('ext4')], {
    stdio: 'pipe',
  });
  return path('ext4');
}

function bytesOf(file: Buffer) {
  return boundedBytes(file.length, (offset, length) => Promise.resolve(file.subarray(offset, offset + length)));
}
