import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

import { test } from 'tap';

import { concatenateArchives, newcArchive } from './newc.ts';

const entries = [
  { path: 'etc', mode: 0o755 },
  { path: 'etc/rackstart', mode: 0o750 },
  { path: 'etc/rackstart/ca.pem', mode: 0o644, content: Buffer.from('a certificate\n') },
  { path: 'etc/odd', mode: 0o600, content: Buffer.from('12345') },
];

const withoutCpio = !existsSync('/usr/bin/cpio') && !existsSync('/bin/cpio') && 'the Debian package cpio is missing';

test('cpio unpacks the archive with its content and modes', { skip: withoutCpio }, (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'rs-newc-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const input = newcArchive(entries);
  const listed = execFileSync('cpio', ['--quiet', '-t'], { input, encoding: 'utf8' });
  t.equal(listed, 'etc\netc/rackstart\netc/rackstart/ca.pem\netc/odd\n');
  execFileSync('cpio', ['--quiet', '-i', '--no-preserve-owner'], { input, cwd: directory });
  t.equal(readFileSync(join(directory, 'etc/rackstart/ca.pem'), 'utf8'), 'a certificate\n');
  t.equal(readFileSync(join(directory, 'etc/odd'), 'utf8'), '12345');
  t.equal(statSync(join(directory, 'etc/rackstart')).mode & 0o7777, 0o750);
  t.equal(statSync(join(directory, 'etc/odd')).mode & 0o7777, 0o600);
  t.end();
});

test('every header, content and appended archive begins at a multiple of four, as the kernel requires', (t) => {
  const archive = newcArchive(entries);
  t.equal(archive.length % 4, 0);
  for (const at of offsetsOf(archive, '070701')) t.equal(at % 4, 0);
  for (const length of [0, 1, 2, 3, 4]) {
    const compressed = Buffer.concat([gzipSync('first'), Buffer.alloc(length, 1)]);
    const both = concatenateArchives([compressed, archive]);
    const [second = -1] = offsetsOf(both, '070701');
    t.equal(second % 4, 0);
    t.same(both.subarray(0, compressed.length), compressed);
    t.ok(
      both.subarray(compressed.length, second).every((byte) => byte === 0),
      'only zeros between',
    );
  }
  t.end();
});

function offsetsOf(archive: Buffer, magic: string): number[] {
  const offsets: number[] = [];
  for (let at = archive.indexOf(magic); at !== -1; at = archive.indexOf(magic, at + 1)) offsets.push(at);
  return offsets;
}
