import { ChunkCache } from './chunk-cache.ts';
import type { ChunkDirectory } from './chunk-directory.ts';
import type { ChunkMap } from './chunk-map.ts';
import { chunkBytes, imageBytes } from './image-bytes.ts';

/** Bytes of a thing that is stored, from memory; both ends included. */
export interface Stored {
  readonly bytes: number;
  readonly read: (start: number, end: number) => AsyncGenerator<Buffer>;
}

/** What is served of frozen images, by digest: undefined for what is not stored. Errors: `image.damaged`. */
export interface FrozenSource {
  readonly map: (digest: string) => Promise<Stored | undefined>;
  /** The whole file, which any zstd unpacks. */
  readonly image: (digest: string) => Promise<Stored | undefined>;
  readonly chunk: (sha256: string) => Promise<Stored | undefined>;
}

/** From an image directory, by way of memory. */
export class FrozenImages implements FrozenSource {
  readonly #directory: ChunkDirectory;
  readonly #cache: ChunkCache;
  /** In the order in which they were last asked for: machines that boot together ask for the same few. */
  readonly #maps = new Map<string, ReadMap>();

  /** Keeps `mostBytes` of chunks in memory. */
  constructor(directory: ChunkDirectory, mostBytes: number) {
    this.#directory = directory;
    this.#cache = new ChunkCache(directory, mostBytes);
  }

  async map(digest: string): Promise<Stored | undefined> {
    const text = (await this.#map(digest))?.text;
    return text && { bytes: text.length, read: (start, end) => once(text.subarray(start, end + 1)) };
  }

  async image(digest: string): Promise<Stored | undefined> {
    const map = (await this.#map(digest))?.map;
    return map && { bytes: map.bytes, read: (start, end) => imageBytes(this.#cache, map, start, end) };
  }

  async chunk(sha256: string): Promise<Stored | undefined> {
    const bytes = await this.#cache.lengthOf(sha256);
    if (bytes === undefined) return undefined;
    return { bytes, read: (start, end) => chunkBytes(this.#cache, sha256, start, end) };
  }

  async #map(digest: string): Promise<ReadMap | undefined> {
    const known = this.#maps.get(digest) ?? (await this.#readMap(digest));
    if (known === undefined) return undefined;
    this.#maps.delete(digest);
    this.#maps.set(digest, known);
    const [oldest] = this.#maps.keys();
    if (this.#maps.size > MOST_MAPS && oldest !== undefined) this.#maps.delete(oldest);
    return known;
  }

  async #readMap(digest: string): Promise<ReadMap | undefined> {
    const read = await this.#directory.map(digest);
    return read && { map: read.map, text: Buffer.from(read.text, 'latin1') };
  }
}

async function* once(piece: Buffer): AsyncGenerator<Buffer> {
  yield piece;
}

interface ReadMap {
  readonly map: ChunkMap;
  readonly text: Buffer;
}

/** Of 64 GiB, a map has 1.8 MB as text. */
const MOST_MAPS = 8;
