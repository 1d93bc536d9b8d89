import { createHash, hash } from 'node:crypto';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import type { Test } from 'tap';

import { createIds } from '../appliance/kernel/ids.ts';
import { ManualClock } from '../appliance/kernel/manual-clock.ts';
import { ChunkDirectory } from './chunk-directory.ts';
import type { FreezeOptions } from './freeze.ts';
import { CHUNK_BYTES } from './zstd-frames.ts';

/** A chunk's worth of bytes that compress to about a third of a MiB, other ones for each seed. */
export function content(seed: string, length = CHUNK_BYTES): Buffer {
  const block = createHash('shake256', { outputLength: 320 * 1024 })
    .update(seed)
    .digest();
  return Buffer.alloc(length, Buffer.concat([block, Buffer.alloc(700 * 1024, seed)]));
}

export const zeroChunk = Buffer.alloc(CHUNK_BYTES);

export interface FreezeRig {
  readonly root: string;
  readonly directory: ChunkDirectory;
  readonly clock: ManualClock;
  readonly options: FreezeOptions;
  /** Writes a raw disk and tells where. */
  readonly disk: (name: string, ...parts: readonly Buffer[]) => string;
  /** Paths in the image directory, sorted. */
  readonly files: () => string[];
  readonly chunks: () => string[];
}

export function openFreezeRig(t: Test): FreezeRig {
  const root = mkdtempSync(join(tmpdir(), 'rs-freeze-'));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  const clock = new ManualClock();
  const directory = new ChunkDirectory(join(root, 'images'));
  const files = () => listed(directory.path);
  return {
    root,
    directory,
    clock,
    options: { directory, clock, ids: createIds(clock), signal: new AbortController().signal, threads: 1 },
    disk: (name, ...parts) => {
      const path = join(root, name);
      writeFileSync(path, Buffer.concat(parts));
      return path;
    },
    files,
    chunks: () => files().filter((file) => file.startsWith('chunks/')),
  };
}

/** Every chunk has the name that its bytes have, and lies on the shelf of that name. */
export function misplaced({ directory, chunks }: Pick<FreezeRig, 'directory' | 'chunks'>): string[] {
  return chunks().filter((file) => {
    const sha256 = hash('sha256', readFileSync(join(directory.path, file)));
    return file !== `chunks/${sha256.slice(0, 2)}/${sha256}`;
  });
}

/** What a process that is to be killed runs: `node THIS DIRECTORY RAW` freezes, and writes a line at each chunk. */
export const freezeProcess = fileURLToPath(new URL('./freeze-process.fixture.ts', import.meta.url));

function listed(directory: string): string[] {
  try {
    return readdirSync(directory, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ parentPath, name }) => join(parentPath, name).slice(directory.length + 1))
      .sort();
  } catch {
    return [];
  }
}
