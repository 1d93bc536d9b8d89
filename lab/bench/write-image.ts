import { once } from 'node:events';
import { open, readFile } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';

import { systemClock } from '../../appliance/kernel/clock.ts';
import { createIds } from '../../appliance/kernel/ids.ts';
import { ChunkDirectory } from '../../images/chunk-directory.ts';
import { freeze } from '../../images/freeze.ts';
import type { FrozenImage } from '../../images/freeze.ts';
import { FrozenImages } from '../../images/frozen-images.ts';

const MIB = 1024 * 1024;
const CHUNK = 4 * MIB;
/** Data and gaps of the half empty disk: about what a file system spreads. */
const STRETCH = 16;

/** A raw disk, sparse where it is empty. What is on it is a program's code: it compresses to a third, as systems do. */
export async function writeRawDisk(path: string, mib: number, isEmpty: (chunk: number) => boolean): Promise<void> {
  const code = await readFile(process.execPath);
  const file = await open(path, 'w');
  try {
    await file.truncate(mib * MIB);
    for (let chunk = 0; chunk < (mib * MIB) / CHUNK; chunk++) {
      if (!isEmpty(chunk)) await writeChunk(file, chunk, code);
    }
  } finally {
    await file.close();
  }
}

export const full = (): boolean => false;
export const halfEmpty = (chunk: number): boolean => chunk % (2 * STRETCH) >= STRETCH;

/** No two chunks are the same, and none is compressed by knowing another. */
async function writeChunk(file: FileHandle, chunk: number, code: Buffer): Promise<void> {
  const from = (chunk * 7919 * 512) % (code.length - CHUNK);
  const bytes = Buffer.from(code.subarray(from, from + CHUNK));
  bytes.write(`chunk ${chunk}`);
  await file.write(bytes, 0, CHUNK, chunk * CHUNK);
}

export interface ServedImage {
  readonly image: FrozenImage;
  readonly url: string;
  readonly stop: () => void;
}

/** Freezes a raw disk and serves it from memory: its map, its chunks, and the whole file, all from the same buffers. */
export async function serveFrozen(raw: string, directory: string): Promise<ServedImage> {
  const store = new ChunkDirectory(join(directory, 'images'));
  const options = { directory: store, clock: systemClock, ids: createIds(systemClock), signal: AbortSignal.any([]) };
  const image = await freeze(raw, options);
  const things = new Map<string, Buffer[]>();
  const source = new FrozenImages(store, image.map.bytes + 64 * MIB);
  things.set('/map', await pieces(await source.map(image.digest)));
  things.set('/image.zst', await pieces(await source.image(image.digest)));
  for (const segment of image.map.segments) {
    if (segment.kind === 'chunk')
      things.set(`/chunk/${segment.sha256}`, await pieces(await source.chunk(segment.sha256)));
  }
  const server = createServer((request, response) => {
    const thing = things.get(request.url ?? '');
    if (thing === undefined) response.writeHead(request.method === 'POST' ? 204 : 404).end();
    else void send(response, thing);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const stop = () => {
    server.close();
    server.closeAllConnections();
  };
  return { image, url, stop };
}

async function pieces(stored: Awaited<ReturnType<FrozenImages['image']>>): Promise<Buffer[]> {
  const all: Buffer[] = [];
  for await (const piece of stored?.read(0, stored.bytes - 1) ?? []) all.push(piece);
  return all;
}

async function send(response: ServerResponse, thing: readonly Buffer[]): Promise<void> {
  response.writeHead(200, { 'content-length': thing.reduce((sum, { length }) => sum + length, 0) });
  // Who goes away half-way will say so.
  await pipeline(thing, response).catch(() => undefined);
}
