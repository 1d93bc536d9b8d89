import { existsSync, mkdirSync, renameSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { test } from 'tap';
import type { Test } from 'tap';

import { ManualClock } from '../appliance/kernel/manual-clock.ts';
import { addImage, openChunks } from './chunks.fixture.ts';
import { GRACE, collect } from './collect.ts';

function open(t: Test) {
  const chunks = openChunks(t);
  const { directory, add } = chunks;
  const clock = new ManualClock();
  const aged = (file: string, age = GRACE + 1): string => {
    const at = (clock.now() - age) / 1000;
    utimesSync(file, at, at);
    return file;
  };
  return {
    directory,
    clock,
    aged,
    /** An old image of these chunks. */
    image: (...contents: string[]) => {
      const { digest } = addImage(
        chunks,
        contents.map((content) => Buffer.from(content)),
      );
      aged(directory.mapFile(digest));
      return digest;
    },
    chunk: (content: string) => aged(directory.chunkFile(add(Buffer.from(content)))),
  };
}

test('maps that nothing needs go, and chunks that no other map names', async (t) => {
  const { directory, clock, image, chunk } = open(t);
  const [kept, gone] = [image('a', 'shared'), image('b', 'shared')];
  const [a, b, shared, stray] = ['a', 'b', 'shared', 'stray'].map(chunk);
  const mapBytes = (await directory.map(gone))!.text.length;
  t.same(await collect(directory, new Set([kept]), clock), { maps: 1, chunks: 2, bytes: mapBytes + 6 });
  t.same(
    [directory.mapFile(kept), a, shared].map((file) => existsSync(file!)),
    [true, true, true],
  );
  t.same(
    [directory.mapFile(gone), b, stray].map((file) => existsSync(file!)),
    [false, false, false],
  );
  t.same(await collect(directory, new Set([kept]), clock), { maps: 0, chunks: 0, bytes: 0 }, 'nothing is left to do');
});

test('what is young stays, for it may belong to an upload that goes on', async (t) => {
  const { directory, clock, image, chunk, aged } = open(t);
  const digest = image('a');
  const files = [
    aged(directory.mapFile(digest), GRACE - 1000),
    aged(chunk('a'), 0),
    aged(chunk('stray'), GRACE - 1000),
  ];
  t.match(await collect(directory, new Set(), clock), { maps: 0, chunks: 0 });
  for (const file of files) t.ok(existsSync(file));
});

test('what uploads left that were killed goes when it is old', async (t) => {
  const { directory, clock, aged } = open(t);
  const left = ['freezing/freeze_1', 'incoming_1.tmp', 'incoming_1.tmp.raw', 'freezing/freeze_2', 'incoming_2.tmp'];
  for (const name of left) mkdirSync(join(directory.path, name), { recursive: true });
  for (const name of left) aged(join(directory.path, name), name.includes('1') ? GRACE + 1 : 1000);
  writeFileSync(join(directory.path, 'notes'), '');
  aged(join(directory.path, 'notes'));
  await collect(directory, new Set(), clock);
  t.same(
    left.filter((name) => existsSync(join(directory.path, name))),
    ['freezing/freeze_2', 'incoming_2.tmp'],
  );
  t.ok(existsSync(join(directory.path, 'notes')), 'what is not ours is not touched');
});

test('a removal that was cut short is ended, or taken back where the chunk is needed again', async (t) => {
  const { directory, clock, image, chunk } = open(t);
  const kept = image('a');
  const [a, stray] = [chunk('a'), chunk('stray')];
  for (const file of [a, stray]) renameSync(file, `${file}.leaving`);
  t.match(await collect(directory, new Set([kept]), clock), { chunks: 1 });
  t.ok(existsSync(a));
  for (const file of [stray, `${a}.leaving`, `${stray}.leaving`]) t.notOk(existsSync(file));
});

test('while a map cannot be read no chunk goes', async (t) => {
  const { directory, clock, image, chunk } = open(t);
  const digest = image('a');
  const stray = chunk('stray');
  truncateSync(directory.mapFile(digest), 50);
  await t.rejects(collect(directory, new Set([digest]), clock), { code: 'image.damaged' });
  t.ok(existsSync(stray));
});

test('an image directory that is not there yet holds nothing to collect', async (t) => {
  const { directory, clock } = open(t);
  t.same(await collect(directory, new Set(), clock), { maps: 0, chunks: 0, bytes: 0 });
});
