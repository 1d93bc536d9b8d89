import { execFileSync } from 'node:child_process';
import { hash } from 'node:crypto';
import { closeSync, openSync, readFileSync, truncateSync, writeFileSync, writeSync } from 'node:fs';

import type { Test } from 'tap';

import { CHUNK_BYTES } from '../zstd-frames.ts';
import { DIRT, begins, chunkRig, chunkedImage, isUnbootable, isZero, nameOf } from './chunks.fixture.ts';
import { fakeRamdisk } from './deploy.fixture.ts';
import { writerTest as test } from './writer.fixture.ts';

const MIB = 1024 * 1024;

test('an image is written as it is, zeros included, and the rest of a dirty disk is left alone', async (t) => {
  const image = chunkedImage('ab00cdefghij00k', 3 * 512);
  const { ramdisk, disk, server } = await chunkRig(t, image);
  t.equal(await ramdisk.stage('image'), undefined);
  const written = readFileSync(disk);
  t.ok(written.subarray(0, image.raw.length).equals(image.raw), 'the disk begins with the image');
  const rest = written.subarray(image.raw.length, written.length - MIB);
  t.ok(rest.equals(Buffer.alloc(rest.length, DIRT)));
  t.ok(isZero(written.subarray(written.length - MIB)), 'an old backup partition table is gone');
  t.match(ramdisk.read('run/facts'), new RegExp(`^bytes=${image.raw.length}\nseconds=[0-9.]+\n$`));
  t.equal(server.asked.length, image.chunks.size, 'every chunk was sent once');
});

test('an image may be as large as the disk, and begin or end with zeros', async (t) => {
  for (const letters of ['ab0c', '0a0b', 'ab00', 'a']) {
    const image = chunkedImage(letters);
    const { ramdisk, disk, order } = await chunkRig(t, image, { diskBytes: image.raw.length });
    order({ image_read_back: 'whole' });
    t.equal(await ramdisk.stage('image'), undefined, letters);
    t.ok(readFileSync(disk).equals(image.raw), `${letters} is on the disk`);
  }
});

test('chunks of the same content are written to each of their places', async (t) => {
  const image = chunkedImage('abbab');
  const { ramdisk, disk } = await chunkRig(t, image);
  t.equal(await ramdisk.stage('image'), undefined);
  t.ok(begins(disk, image.raw));
});

test('what the disk does not give back is found when it is read back', async (t) => {
  const image = chunkedImage('abcdef');
  const { ramdisk, disk, order } = await chunkRig(t, image, {
    answer: ({ sha256 }, _response, serve) => {
      // It is fetched when all others are written.
      if (sha256 === nameOf(image.map, 5)) overwrite(disk, 3 * CHUNK_BYTES - 1);
      serve();
    },
  });
  order({ image_read_back: 'whole' });
  t.match(await ramdisk.stage('image'), { code: 'disk.failed', reason: /does not give back/ });
  t.ok(isUnbootable(disk));

  const sampled = `work="$RUN/chunks"; disk='${disk}'; direct=; samples_are_there plan; zeros_are_there; echo good`;
  const done = [1, 3].map((index) => {
    const at = index * CHUNK_BYTES;
    return `${at} ${CHUNK_BYTES} ${hash('sha256', image.raw.subarray(at, at + CHUNK_BYTES))}\n`;
  });
  overwrite(disk, 3 * CHUNK_BYTES - 1, image.raw.subarray(3 * CHUNK_BYTES - 1, 3 * CHUNK_BYTES));
  ramdisk.put('run/chunks/plan-done', `0 ${CHUNK_BYTES}\n${done.join('')}`);
  ramdisk.put('run/chunks/sampled-zeros', `${6 * CHUNK_BYTES}\n`);
  await t.rejects(ramdisk.shell(sampled), /does not give back zeros at byte 25165824/);
  overwrite(disk, 6 * CHUNK_BYTES, Buffer.alloc(CHUNK_BYTES));
  t.equal(await ramdisk.shell(sampled), 'good\n');
  overwrite(disk, CHUNK_BYTES + 511);
  await t.rejects(ramdisk.shell(sampled), /does not give back what was written to it at byte 4194304/);
});

test('as many threads as processors and memory allow', async (t) => {
  const ramdisk = fakeRamdisk(t);
  const threads = async (processors: number, availableMib: number) => {
    ramdisk.put('proc/cpuinfo', Array.from({ length: processors }, (_, id) => `processor\t: ${id}\n`).join('\n'));
    ramdisk.put('proc/meminfo', `MemTotal: 1\nMemAvailable:   ${availableMib * 1024} kB\n`);
    return Number(await ramdisk.shell('thread_count'));
  };
  t.equal(await threads(1, 700), 3);
  t.equal(await threads(2, 700), 6);
  t.equal(await threads(64, 500_000), 8);
  t.equal(await threads(4, 150), 4);
  t.equal(await threads(4, 20), 1);
});

const loop = canLoop() ? false : 'there is no loop device to be had';

test('a disk that is a block device is written past the cache and read back whole', { skip: loop }, async (t) => {
  const image = chunkedImage('ab0cde00', 512);
  const { path, bytes } = loopDevice(t, 10 * CHUNK_BYTES);
  const { ramdisk, order } = await chunkRig(t, image, { disk: path, diskBytes: bytes });
  order({ image_read_back: 'whole' });
  t.equal(await ramdisk.stage('image'), undefined);
  t.ok(readFileSync(path).subarray(0, image.raw.length).equals(image.raw));
});

function overwrite(disk: string, at: number, bytes: Uint8Array = Buffer.of(0x77)): void {
  const file = openSync(disk, 'r+');
  writeSync(file, bytes, 0, bytes.length, at);
  closeSync(file);
}

function canLoop(): boolean {
  try {
    execFileSync('losetup', ['--find'], { stdio: 'ignore' });
    return process.getuid?.() === 0;
  } catch {
    return false;
  }
}

function loopDevice(t: Test, bytes: number): { path: string; bytes: number } {
  const file = fakeRamdisk(t).path('backing');
  writeFileSync(file, '');
  truncateSync(file, bytes);
  const path = execFileSync('losetup', ['--find', '--show', '--partscan', file], { encoding: 'utf8' }).trim();
  t.teardown(() => execFileSync('losetup', ['--detach', path]));
  return { path, bytes };
}
