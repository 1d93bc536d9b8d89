import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';

import type { Clock } from '../appliance/kernel/clock.ts';
import { syncDirectory, syncFile, writeOnce } from '../appliance/kernel/durable-file.ts';
import { RackstartError } from '../appliance/kernel/errors.ts';
import type { Ids } from '../appliance/kernel/ids.ts';
import type { ChunkDirectory } from './chunk-directory.ts';
import type { ChunkMap, Part } from './chunk-map.ts';
import { chunkMapDigest, formatChunkMap, layOut } from './chunk-map.ts';
import type { FreezeTask, FreezeReport } from './freeze-worker.ts';
import { CHUNK_BYTES, SECTOR_BYTES } from './zstd-frames.ts';

export interface FrozenImage {
  /** Of the map: the image's name. */
  readonly digest: string;
  readonly mapBytes: number;
  readonly map: ChunkMap;
}

export interface FreezeOptions {
  readonly directory: ChunkDirectory;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly signal: AbortSignal;
  /** Raw bytes that are done, of all. */
  readonly progress?: (done: number, of: number) => void;
  /** Threads that compress; one for each processor. */
  readonly threads?: number;
}

/**
 * Makes a raw disk image an image of the store: its chunks compressed, unpacked again and compared, and on disk before
 * its map is. However this ends, there is the whole image or none; chunks that nothing names yet are collected. The same
 * disk again is the same image, and mends what was damaged meanwhile. Nobody else may write to `raw` meanwhile.
 *
 * Errors: `image.invalid` for what can't be a disk; `image.store-full`, and then nothing stays.
 */
export async function freeze(raw: string, options: FreezeOptions): Promise<FrozenImage> {
  const { directory, clock, ids } = options;
  const { size } = await stat(raw);
  if (size === 0 || size % SECTOR_BYTES !== 0) {
    throw new RackstartError('image.invalid', `A raw disk has whole sectors; ${String(size)} bytes have not.`);
  }
  const staging = join(directory.freezing, ids.next('freeze'));
  await mkdir(staging, { recursive: true });
  try {
    const { rawSha256, parts } = await compress(raw, size, staging, options);
    const map = layOut(rawSha256, parts);
    const text = formatChunkMap(map);
    const digest = chunkMapDigest(text);
    await publishChunks(staging, directory);
    await publishMap(text, digest, staging, directory);
    await directory.touch(directory.mapFile(digest), clock);
    return { digest, mapBytes: text.length, map };
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOSPC') throw cause;
    throw new RackstartError('image.store-full', 'The image store became full while the image was frozen.', { cause });
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

/** Threads take chunk after chunk from one counter; one more reads along for the digest of the whole. */
async function compress(
  raw: string,
  rawBytes: number,
  staging: string,
  { directory, clock, signal, progress = () => undefined, threads = availableParallelism() }: FreezeOptions,
): Promise<{ rawSha256: string; parts: Part[] }> {
  signal.throwIfAborted();
  const next = new Int32Array(new SharedArrayBuffer(4));
  const zeros = new Uint8Array(new SharedArrayBuffer(Math.ceil(rawBytes / CHUNK_BYTES)));
  const work = { raw, rawBytes, staging, chunks: directory.chunks, next, zeros, now: clock.now() };
  const parts: Part[] = [];
  let rawSha256 = '';
  let done = 0;
  const stopped = new AbortController();
  let flushed = Promise.resolve();
  const take = (report: FreezeReport): void => {
    if (report.kind === 'hashed') rawSha256 = report.sha256;
    else {
      const { index, part, staged } = report;
      parts[index] = part;
      if (staged && part.kind === 'chunk') flushNext(join(staging, part.sha256));
      done += part.rawLength;
      progress(done, rawBytes);
    }
  };
  // One after the other, here: a thread that flushed what it wrote would wait for the disk, and a processor for it.
  const flushNext = (file: string): void => {
    flushed = flushed.then(() => (stopped.signal.aborted ? undefined : syncFile(file)));
    flushed.catch(() => undefined); // met below
  };
  const most = Math.min(threads, zeros.length);
  const tasks: FreezeTask[] = [{ ...work, does: 'hash' }];
  for (let thread = 0; thread < most; thread++) tasks.push({ ...work, does: 'compress' });
  const running = tasks.map((task) => runWorker(task, take, AbortSignal.any([signal, stopped.signal])));
  try {
    await Promise.all(running);
    await flushed;
  } catch (error) {
    stopped.abort();
    // Nobody may write to the staging directory any more when it is removed.
    await Promise.allSettled([...running, flushed]);
    throw error;
  }
  return { rawSha256, parts };
}

/** Resolves when the thread has ended by itself; rejects with its error, or with the signal's reason, when it is gone. */
async function runWorker(task: FreezeTask, take: (report: FreezeReport) => void, signal: AbortSignal): Promise<void> {
  const worker = new Worker(new URL('./freeze-worker.ts', import.meta.url), { workerData: task });
  const { promise, resolve, reject } = Promise.withResolvers<undefined>();
  let failure: Error | undefined;
  const stop = (): void => {
    failure ??= signal.reason as Error;
    void worker.terminate();
  };
  worker.on('message', take);
  worker.on('error', (error: Error) => (failure ??= error));
  worker.on('exit', () => (failure === undefined ? resolve(undefined) : reject(failure)));
  if (signal.aborted) stop();
  else signal.addEventListener('abort', stop, { once: true });
  await promise.finally(() => signal.removeEventListener('abort', stop));
}

/** What a kill in the middle leaves is whole chunks that no map names. */
async function publishChunks(staging: string, directory: ChunkDirectory): Promise<void> {
  const shelves = new Set<string>();
  for (const sha256 of await readdir(staging)) {
    const shelf = join(directory.chunks, sha256.slice(0, 2));
    if (!shelves.has(shelf)) await mkdir(shelf, { recursive: true });
    shelves.add(shelf);
    // In the place of one that was published meanwhile is the same, of one that was damaged the right one.
    await rename(join(staging, sha256), directory.chunkFile(sha256));
  }
  for (const shelf of shelves) await syncDirectory(shelf);
  if (shelves.size > 0) await syncDirectory(directory.chunks);
}

async function publishMap(text: string, digest: string, staging: string, directory: ChunkDirectory): Promise<void> {
  await writeOnce(join(staging, digest), text, 0o644);
  await mkdir(directory.maps, { recursive: true });
  await rename(join(staging, digest), directory.mapFile(digest));
  await syncDirectory(directory.maps);
  await syncDirectory(directory.path);
}
