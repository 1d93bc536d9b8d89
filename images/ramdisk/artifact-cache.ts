import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { access, mkdir, mkdtemp, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { once } from 'node:events';

import { RackstartError } from '../../appliance/kernel/errors.ts';

/**
 * The directory of the artifact `name` under `key`: the finished one at once, or made by `build` in a workspace beside it
 * and moved into place when it is whole. One builder at a time; those who come meanwhile wait and find it done.
 */
export async function cachedArtifact(
  { cacheDirectory, name, key }: { cacheDirectory: string; name: string; key: string },
  build: (workspace: string, result: string) => Promise<void>,
): Promise<string> {
  const shelf = join(cacheDirectory, name);
  const place = join(shelf, key);
  if (await exists(place)) return place;

  await mkdir(shelf, { recursive: true });
  await withLock(join(shelf, '.lock'), async () => {
    if (await exists(place)) return;
    await removeUnfinished(shelf);
    const workspace = await mkdtemp(join(shelf, WORKSPACE));
    try {
      const result = join(workspace, 'result');
      await mkdir(result);
      await build(workspace, result);
      await rename(result, place);
    } finally {
      await rm(workspace, { recursive: true, force: true });
    }
  });
  return place;
}

/** One digest over everything that decides what a build will be: texts and the contents of directories (tests left out). */
export async function buildKey(texts: readonly string[], directories: readonly string[]): Promise<string> {
  const hash = createHash('sha256');
  for (const text of texts) hash.update(`${text}\0`);
  for (const directory of directories) {
    const entries = await readdir(directory, { recursive: true, withFileTypes: true });
    const files = entries.filter((entry) => entry.isFile() && !/\.(?:test|fixture)\.ts$/.test(entry.name));
    for (const path of files.map((entry) => join(entry.parentPath, entry.name)).sort()) {
      hash
        .update(`${relative(directory, path)}\0`)
        .update(await readFile(path))
        .update('\0');
    }
  }
  return hash.digest('hex').slice(0, 32);
}

const WORKSPACE = '.building-';

// Whoever holds the lock is the only builder, so these belong to builders that were killed.
async function removeUnfinished(shelf: string): Promise<void> {
  const left = (await readdir(shelf)).filter((entry) => entry.startsWith(WORKSPACE));
  for (const entry of left) await rm(join(shelf, entry), { recursive: true, force: true });
}

// flock(1) keeps the lock for as long as its standard input is open: it ends with us, however we end.
async function withLock(file: string, work: () => Promise<void>): Promise<void> {
  const holder = spawn('flock', ['--exclusive', file, 'sh', '-c', 'echo locked && exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ended = once(holder, 'close');
  ended.catch(() => undefined);
  try {
    const locked = await Promise.race([once(holder.stdout, 'data'), ended]);
    if (holder.exitCode !== null)
      throw new RackstartError('image.build-failed', `No lock on ${file}: ${String(locked)}`);
    await work();
  } finally {
    holder.stdin.end();
    await ended;
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
