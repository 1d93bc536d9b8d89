import { spawnSync } from 'node:child_process';
import { hash } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';

import { test } from 'tap';

import { ChunkCache } from './chunk-cache.ts';
import { ChunkDirectory } from './chunk-directory.ts';
import type { FreezeRig } from './freeze.fixture.ts';
import { content, misplaced, openFreezeRig, zeroChunk } from './freeze.fixture.ts';
import type { FrozenImage } from './freeze.ts';
import { freeze } from './freeze.ts';
import { imageBytes } from './image-bytes.ts';

const needsRoot = process.getuid?.() === 0 ? {} : { skip: 'a file system of its own needs root' };

test('a frozen disk is a map of chunks from which any zstd makes the disk again', async (t) => {
  const rig = openFreezeRig(t);
  const parts = [content('a'), zeroChunk, zeroChunk, content('b'), content('a'), content('c', 512 * 700)];
  const raw = Buffer.concat(parts);
  const frozen = await freeze(rig.disk('raw', ...parts), rig.options);

  t.equal(frozen.map.rawSha256, hash('sha256', raw));
  t.same(
    frozen.map.segments.map(({ kind, rawLength }) => [kind, rawLength]),
    [
      ['chunk', 4_194_304],
      ['zeros', 8_388_608],
      ['chunk', 4_194_304],
      ['chunk', 4_194_304],
      ['chunk', 358_400],
    ],
  );
  t.equal(rig.chunks().length, 3, 'what is twice on the disk is stored once, zeros not at all');
  t.same(misplaced(rig), []);
  const { text } = (await rig.directory.map(frozen.digest))!;
  t.equal(frozen.digest, hash('sha256', text));
  t.equal(frozen.mapBytes, text.length);
  t.same(rig.files(), [...rig.chunks(), `maps/${frozen.digest}`], 'and nothing else');

  const whole = await wholeFile(rig, frozen);
  t.equal(whole.length, frozen.map.bytes);
  const { status, stdout } = spawnSync('zstd', ['-dc'], { input: whole, maxBuffer: 2 * raw.length });
  t.equal(status, 0);
  t.ok(stdout.equals(raw), 'bit by bit');
});

test('the same disk again is the same image, and another one shares what both have', async (t) => {
  const rig = openFreezeRig(t);
  const parts = [content('a'), zeroChunk, content('b')];
  const first = await freeze(rig.disk('raw', ...parts), rig.options);
  const before = rig.files();
  const inodes = before.map((file) => statSync(join(rig.directory.path, file)).ino);
  await rig.clock.advance(3_600_000);
  const again = await freeze(rig.disk('again', ...parts), rig.options);
  t.equal(again.digest, first.digest);
  t.same(rig.files(), before);
  const chunks = rig.chunks();
  t.same(
    chunks.map((file) => statSync(join(rig.directory.path, file)).ino),
    inodes.slice(0, chunks.length),
    'chunks that are there are not written',
  );
  for (const file of before) {
    t.equal(statSync(join(rig.directory.path, file)).mtimeMs, rig.clock.now(), 'and are too young to be collected');
  }
  const next = await freeze(rig.disk('next', content('a'), content('new'), content('b')), rig.options);
  t.not(next.digest, first.digest);
  t.equal(rig.chunks().length, 3, 'of three chunks one is new');
});

test('two freezes of one disk at the same time are one image', async (t) => {
  const rig = openFreezeRig(t);
  const raw = rig.disk('raw', content('a'), content('b'), content('c'));
  const [one, other] = await Promise.all([freeze(raw, rig.options), freeze(raw, rig.options)]);
  t.equal(one.digest, other.digest);
  t.equal(rig.chunks().length, 3);
  t.same(misplaced(rig), []);
});

test('a chunk that was damaged is mended by freezing the same disk again', async (t) => {
  const rig = openFreezeRig(t);
  const raw = rig.disk('raw', content('a'), content('b'));
  await freeze(raw, rig.options);
  const [spoiled, short] = rig.chunks().map((file) => join(rig.directory.path, file)) as [string, string];
  const bytes = readFileSync(spoiled);
  bytes[1000]! ^= 1;
  writeFileSync(spoiled, bytes);
  truncateSync(short, 10);
  t.equal(misplaced(rig).length, 2);
  await freeze(raw, rig.options);
  t.same(misplaced(rig), []);
});

for (const [title, bytes] of [
  ['an empty file', 0],
  ['half a sector', 1000],
] as const) {
  test(`${title} is no disk, and leaves nothing`, async (t) => {
    const rig = openFreezeRig(t);
    await t.rejects(freeze(rig.disk('raw', Buffer.alloc(bytes)), rig.options), { code: 'image.invalid' });
    t.same(rig.files(), []);
  });
}

test('a freeze that is broken off leaves nothing', async (t) => {
  const rig = openFreezeRig(t);
  const raw = rig.disk('raw', ...['a', 'b', 'c', 'd', 'e', 'f'].map((seed) => content(seed)));
  const stop = new AbortController();
  const reason = new Error('the daemon ends');
  const frozen = freeze(raw, { ...rig.options, signal: stop.signal, progress: () => stop.abort(reason) });
  await t.rejects(frozen, reason);
  t.same(rig.files(), []);
  t.same(readdirSync(rig.directory.freezing), []);
});

test('a store that becomes full refuses the image and keeps nothing of it', needsRoot, async (t) => {
  const rig = openFreezeRig(t);
  const small = join(rig.root, 'small');
  mkdirSync(small);
  t.equal(spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'none', small]).status, 0);
  t.teardown(() => spawnSync('umount', [small]));
  const directory = new ChunkDirectory(join(small, 'images'));
  const raw = rig.disk('raw', ...['a', 'b', 'c', 'd', 'e', 'f'].map((seed) => content(seed)));
  await t.rejects(freeze(raw, { ...rig.options, directory }), { code: 'image.store-full' });
  t.same(readdirSync(directory.path), ['freezing']);
  t.same(readdirSync(directory.freezing), []);
  t.ok(await freeze(rig.disk('less', content('a')), { ...rig.options, directory }), 'a smaller one has room');
});

async function wholeFile({ directory }: FreezeRig, { map }: FrozenImage): Promise<Buffer> {
  const cache = new ChunkCache(directory, 2 ** 24);
  return buffer(imageBytes(cache, map, 0, map.bytes - 1));
}
