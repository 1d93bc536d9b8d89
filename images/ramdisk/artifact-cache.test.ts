import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { test } from 'tap';
import type { Test } from 'tap';

import { buildKey, cachedArtifact } from './artifact-cache.ts';

test('builders who come at once get the work of one', async (t) => {
  const cacheDirectory = folder(t);
  let builds = 0;
  const build = async (_workspace: string, result: string) => {
    builds++;
    writeFileSync(join(result, 'file'), 'built');
    await new Promise((resolve) => setImmediate(resolve));
  };
  const request = { cacheDirectory, name: 'thing', key: 'k1' };
  const places = await Promise.all([1, 2, 3].map(() => cachedArtifact(request, build)));
  t.equal(builds, 1);
  t.same(places, Array(3).fill(join(cacheDirectory, 'thing', 'k1')));
  t.equal(readFileSync(join(places[0]!, 'file'), 'utf8'), 'built');
});

test('a build that fails leaves nothing, and the next one is made', async (t) => {
  const request = { cacheDirectory: folder(t), name: 'thing', key: 'k1' };
  const failing = async (_workspace: string, result: string) => {
    writeFileSync(join(result, 'half'), '');
    throw new Error('out of space');
  };
  await t.rejects(cachedArtifact(request, failing), /out of space/);
  t.same(readdirSync(join(request.cacheDirectory, 'thing')), ['.lock']);
  t.same(readdirSync(await cachedArtifact(request, async () => undefined)), []);
});

test('what a killed builder left is cleared away by the next', async (t) => {
  const cacheDirectory = folder(t);
  mkdirSync(join(cacheDirectory, 'thing', '.building-dead', 'root'), { recursive: true });
  await cachedArtifact({ cacheDirectory, name: 'thing', key: 'k1' }, async () => undefined);
  t.same(readdirSync(join(cacheDirectory, 'thing')).sort(), ['.lock', 'k1']);
});

test('a key changes with a version and with a source, not with a test', async (t) => {
  const sources = folder(t);
  writeFileSync(join(sources, 'deploy'), 'one');
  const before = await buildKey(['curl 1'], [sources]);
  writeFileSync(join(sources, 'deploy.test.ts'), 'a test');
  t.equal(await buildKey(['curl 1'], [sources]), before);
  t.not(await buildKey(['curl 2'], [sources]), before);
  writeFileSync(join(sources, 'deploy'), 'two');
  t.not(await buildKey(['curl 1'], [sources]), before);
});

function folder(t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'rs-cache-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}
