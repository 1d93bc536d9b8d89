import { readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';

import type { Clock, Millis } from '../appliance/kernel/clock.ts';
import { HOUR } from '../appliance/kernel/clock.ts';
import { RackstartError } from '../appliance/kernel/errors.ts';
import type { ChunkDirectory } from './chunk-directory.ts';
import { absent, isDigest } from './chunk-directory.ts';

export interface Collected {
  readonly maps: number;
  readonly chunks: number;
  /** Of both. */
  readonly bytes: number;
}

/** Longer than any upload lasts: what is younger may be part of one that has no row yet. */
export const GRACE: Millis = 24 * HOUR;

/**
 * Removes maps that are not among the `needed`, chunks that no map names any more, and what uploads left that were killed, each
 * once it is older than GRACE. A freeze that uses an old chunk again makes it young first, and so takes it from us even in the
 * moment in which it is removed. Error: `image.damaged` for a map that can't be read: what it needs is not known, so no chunk
 * goes.
 */
export async function collect(
  directory: ChunkDirectory,
  needed: ReadonlySet<string>,
  clock: Clock,
): Promise<Collected> {
  const old = (at: Millis) => at < clock.now() - GRACE;
  const maps = await removeOthers(directory.maps, needed, old);
  const named = await namedChunks(directory);
  const chunks = { files: 0, bytes: 0 };
  for (const shelf of await names(directory.chunks)) {
    const { files, bytes } = await removeOthers(join(directory.chunks, shelf), named, old);
    chunks.files += files;
    chunks.bytes += bytes;
  }
  for (const left of await names(directory.freezing)) await removeOld(join(directory.freezing, left), old);
  for (const left of await names(directory.path)) {
    if (/\.tmp(\.raw)?$/.test(left)) await removeOld(join(directory.path, left), old);
  }
  return { maps: maps.files, chunks: chunks.files, bytes: maps.bytes + chunks.bytes };
}

type IsOld = (modified: Millis) => boolean;

async function namedChunks(directory: ChunkDirectory): Promise<Set<string>> {
  const named = new Set<string>();
  for (const digest of await names(directory.maps)) {
    if (!isDigest(digest)) continue;
    const read = await directory.map(digest);
    if (read === undefined)
      throw new RackstartError('image.damaged', `The map ${digest} went away while it was needed.`);
    for (const segment of read.map.segments) if (segment.kind === 'chunk') named.add(segment.sha256);
  }
  return named;
}

async function removeOthers(
  shelf: string,
  kept: ReadonlySet<string>,
  old: IsOld,
): Promise<{ files: number; bytes: number }> {
  const removed = { files: 0, bytes: 0 };
  for (const name of await names(shelf)) {
    const digest = name.endsWith(LEAVING) ? name.slice(0, -LEAVING.length) : name;
    if (!isDigest(digest)) continue;
    if (kept.has(digest)) {
      // Its removal was cut short, and it is needed since.
      if (name !== digest) await rename(join(shelf, name), join(shelf, digest));
      continue;
    }
    const bytes = await leave(shelf, name, digest, old);
    if (bytes === undefined) continue;
    removed.files++;
    removed.bytes += bytes;
  }
  return removed;
}

const LEAVING = '.leaving';

/** Takes the name away first, then looks once more how old it is: who has made it young by its name gets it back. */
async function leave(shelf: string, name: string, digest: string, old: IsOld): Promise<number | undefined> {
  const file = join(shelf, name);
  if (!old((await stat(file).catch(absent))?.mtimeMs ?? Infinity)) return undefined;
  const leaving = join(shelf, `${digest}${LEAVING}`);
  await rename(file, leaving);
  const { mtimeMs, size } = await stat(leaving);
  if (old(mtimeMs)) {
    await rm(leaving);
    return size;
  }
  await rename(leaving, join(shelf, digest));
  return undefined;
}

async function removeOld(path: string, old: IsOld): Promise<void> {
  if (old((await stat(path).catch(absent))?.mtimeMs ?? Infinity)) await rm(path, { recursive: true, force: true });
}

async function names(directory: string): Promise<string[]> {
  return (await readdir(directory).catch(absent)) ?? [];
}
