import { createHash, hash } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync, readdirSync, readlinkSync, writeSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { constants, zstdCompressSync } from 'node:zlib';

import type { Test } from 'tap';

import type { ChunkMap } from '../chunk-map.ts';
import { formatChunkMap, layOut } from '../chunk-map.ts';
import { CHUNK_BYTES } from '../zstd-frames.ts';
import type { FakeRamdisk } from './deploy.fixture.ts';
import { fakeRamdisk } from './deploy.fixture.ts';
import { writerHere } from './writer.fixture.ts';

export interface ChunkedImage {
  readonly raw: Buffer;
  readonly map: ChunkMap;
  /** By their digests. */
  readonly chunks: Map<string, Buffer>;
}

/** A raw disk of parts of 4 MiB, one for each letter: a content of its own, `0` for zeros; and a tail of as many bytes. */
export function chunkedImage(letters: string, tailBytes = 0): ChunkedImage {
  const parts = Array.from(letters, (letter) => content(letter, CHUNK_BYTES));
  if (tailBytes > 0) parts.push(content('tail', tailBytes));
  const chunks = new Map<string, Buffer>();
  const map = layOut(
    hash('sha256', Buffer.concat(parts)),
    parts.map((part) => {
      if (part.every((byte) => byte === 0)) return { kind: 'zeros', rawLength: part.length };
      const compressed = frame(part);
      const sha256 = hash('sha256', compressed);
      chunks.set(sha256, compressed);
      return { kind: 'chunk', rawLength: part.length, length: compressed.length, sha256 };
    }),
  );
  return { raw: Buffer.concat(parts), map, chunks };
}

/** One zstd frame that declares its length. */
export function frame(raw: Buffer): Buffer {
  return zstdCompressSync(raw, { pledgedSrcSize: raw.length, params: { [constants.ZSTD_c_compressionLevel]: 1 } });
}

/** Compresses to about a third. */
function content(letter: string, length: number): Buffer {
  if (letter === '0') return Buffer.alloc(length);
  const block = createHash('shake256', { outputLength: 320 * 1024 })
    .update(letter)
    .digest();
  return Buffer.alloc(length, Buffer.concat([block, Buffer.alloc(640 * 1024, letter)]));
}

/** How a request for a chunk is answered; `serve` gives it, or the part that was asked for, as it should be. */
export type Answer = (request: ChunkRequest, response: ServerResponse, serve: () => void) => void;

export interface ChunkRequest {
  readonly sha256: string;
  readonly from: number;
  readonly body: Buffer;
}

export interface ChunkServer {
  readonly url: string;
  /** Every request for a chunk, in their order. */
  readonly asked: ChunkRequest[];
  /** What was sent of chunks. */
  readonly sentBytes: () => number;
  /** Cuts every connection, and is back at once. */
  readonly restart: () => void;
}

/** Serves the map and the chunks of an image, over real sockets. */
export async function serveChunks(
  t: Test,
  { map, chunks }: Pick<ChunkedImage, 'map' | 'chunks'>,
  answer: Answer = (_request, _response, serve) => serve(),
): Promise<ChunkServer> {
  const asked: ChunkRequest[] = [];
  let sent = 0;
  const listener = (request: IncomingMessage, response: ServerResponse) => {
    if (request.url === '/map') return response.end(formatChunkMap(map));
    const sha256 = request.url?.slice('/chunk/'.length) ?? '';
    const body = chunks.get(sha256);
    if (body === undefined) return response.writeHead(404).end();
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? 'bytes=0-')?.[1]);
    const about = { sha256, from, body };
    asked.push(about);
    answer(about, response, () => {
      if (from >= body.length) return response.writeHead(416).end();
      if (from === 0) response.writeHead(200, { 'content-length': body.length });
      else response.writeHead(206, partial(body, from));
      sent += body.length - from;
      return response.end(body.subarray(from));
    });
    return response;
  };
  let server = await listen(listener, 0);
  const { port } = server.address() as AddressInfo;
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  return {
    url: `http://127.0.0.1:${port}`,
    asked,
    sentBytes: () => sent,
    restart: () => {
      server.close(() => void listen(listener, port).then((again) => (server = again)));
      server.closeAllConnections();
    },
  };
}

export function partial(body: Buffer, from: number): Record<string, string | number> {
  return {
    'content-length': body.length - from,
    'content-range': `bytes ${from}-${body.length - 1}/${body.length}`,
  };
}

async function listen(listener: (request: IncomingMessage, response: ServerResponse) => void, port: number) {
  const server = createServer(listener).listen(port, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

export interface ChunkRig {
  readonly ramdisk: FakeRamdisk;
  readonly disk: string;
  readonly server: ChunkServer;
  /** Writes the order for the image, but for these lines. */
  readonly order: (changes?: Record<string, string | number>) => void;
}

export interface ChunkRigOptions {
  readonly diskBytes?: number;
  /** A block device instead of a file. */
  readonly disk?: string;
  readonly answer?: Answer;
  readonly retryPause?: number;
}

/** An image, its server, and a machine with a dirty disk that is ordered to install it. */
export async function chunkRig(
  t: Test,
  image: Pick<ChunkedImage, 'raw' | 'map' | 'chunks'>,
  { diskBytes = image.raw.length + CHUNK_BYTES, disk: device, answer, retryPause = 0 }: ChunkRigOptions = {},
): Promise<ChunkRig> {
  const server = await serveChunks(t, image, answer);
  const ramdisk = fakeRamdisk(t, { realProc: true, programs: await writerHere(), retryPause });
  const disk = device ?? ramdisk.path('disk');
  dirty(disk, diskBytes);
  const name = disk.split('/').at(-1) ?? '';
  ramdisk.put(`sys/block/${name}/size`, `${diskBytes / 512}\n`);
  ramdisk.put('run/disk', `${disk}\n`);
  const text = formatChunkMap(image.map);
  const order = (changes: Record<string, string | number> = {}) => {
    const lines = {
      verb: 'install',
      generation: 1,
      image_map_url: `${server.url}/map`,
      image_map_sha256: hash('sha256', text),
      image_map_bytes: text.length,
      chunk_url: `${server.url}/chunk`,
      image_raw_bytes: image.raw.length,
      ...changes,
    };
    const kept = Object.entries(lines).map(([key, value]) => `${key}=${value}\n`);
    ramdisk.put('run/order', kept.join(''));
  };
  order();
  return { ramdisk, disk, server, order };
}

/** Every byte of an old tenant's disk. */
export const DIRT = 0xd1;

function dirty(disk: string, bytes: number): void {
  const file = openSync(disk, 'w');
  const dirt = Buffer.alloc(CHUNK_BYTES, DIRT);
  for (let at = 0; at < bytes; at += CHUNK_BYTES) writeSync(file, dirt, 0, Math.min(CHUNK_BYTES, bytes - at), at);
  closeSync(file);
}

/** A chunk's name by its place in the map. */
export function nameOf(map: ChunkMap, index: number): string {
  const segment = map.segments[index];
  return segment?.kind === 'chunk' ? segment.sha256 : '';
}

export function begins(disk: string, raw: Buffer): boolean {
  return readFileSync(disk).subarray(0, raw.length).equals(raw);
}

/** As it was before the first write. */
export function isDirty(disk: string): boolean {
  const bytes = readFileSync(disk);
  return bytes.equals(Buffer.alloc(bytes.length, DIRT));
}

/** Neither boot code nor a partition table, at the beginning or the end. */
export function isUnbootable(disk: string): boolean {
  const bytes = readFileSync(disk);
  return isZero(bytes.subarray(0, MIB)) && isZero(bytes.subarray(-MIB));
}

export function isZero(bytes: Buffer): boolean {
  return bytes.equals(Buffer.alloc(bytes.length));
}

/** Processes that have a file open. */
export function openedBy(path: string): string[] {
  return readdirSync('/proc').filter((pid) => {
    try {
      return readdirSync(`/proc/${pid}/fd`).some((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`) === path);
    } catch {
      return false; // no process, or one that has just ended
    }
  });
}

const MIB = 1024 * 1024;
