import { readFile, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';

import type { Clock } from '../appliance/kernel/clock.ts';
import { RackstartError } from '../appliance/kernel/errors.ts';
import type { ChunkMap } from './chunk-map.ts';
import { chunkMapDigest, parseChunkMap } from './chunk-map.ts';

/**
 * Where frozen images lie. What has a name here is whole and on disk, and never changes:
 *
 * ```text
 * maps/DIGEST             a chunk map
 * chunks/AB/ABCD…         a compressed chunk, by the SHA-256 of its bytes
 * freezing/ID/            what an unfinished freeze has made
 * ```
 */
export class ChunkDirectory {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /** Of maps that are none here: `undefined`. Error: `image.damaged` when the file is not what its name says. */
  async map(digest: string): Promise<{ text: string; map: ChunkMap } | undefined> {
    if (!isDigest(digest)) return undefined;
    const text = await readFile(this.mapFile(digest), 'latin1').catch(absent);
    if (text === undefined) return undefined;
    if (chunkMapDigest(text) !== digest) {
      throw new RackstartError('image.damaged', `The map of image ${digest} is not what its name says.`);
    }
    return { text, map: parseChunkMap(text) };
  }

  /** Keeps a file that is in use again from being collected: what is old and not needed is. False when there is none. */
  async touch(file: string, clock: Clock): Promise<boolean> {
    const now = new Date(clock.now());
    return (await utimes(file, now, now).then(() => true, absent)) ?? false;
  }

  async chunkBytes(sha256: string): Promise<number | undefined> {
    return (await stat(this.chunkFile(sha256)).catch(absent))?.size;
  }

  get maps(): string {
    return join(this.path, 'maps');
  }

  get chunks(): string {
    return join(this.path, 'chunks');
  }

  get freezing(): string {
    return join(this.path, 'freezing');
  }

  mapFile(digest: string): string {
    return join(this.maps, digest);
  }

  chunkFile(sha256: string): string {
    return join(this.chunks, sha256.slice(0, 2), sha256);
  }
}

/** Only such a name may become part of a path. */
export function isDigest(text: string): boolean {
  return /^[0-9a-f]{64}$/.test(text);
}

/** For `catch`: a file that is not there is no error. */
export function absent(error: unknown): undefined {
  if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
}
