import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createZstdDecompress } from 'node:zlib';

import type { Clock } from '../appliance/kernel/clock.ts';
import { syncDirectory } from '../appliance/kernel/durable-file.ts';
import { RackstartError } from '../appliance/kernel/errors.ts';
import type { Ids } from '../appliance/kernel/ids.ts';
import type { ImageRow } from '../appliance/store/schema.ts';
import type { Reader, Store, Tx } from '../appliance/store/store.ts';
import { ChunkDirectory } from './chunk-directory.ts';
import type { FreezeOptions } from './freeze.ts';
import { freeze } from './freeze.ts';
import { FrozenImages } from './frozen-images.ts';

export interface NewImage {
  readonly name: string;
  readonly version: string;
  /** Of what was sent, hex: mandatory, and checked. */
  readonly sha256: string;
  readonly rootPartition: number;
  readonly kernelArgs: string;
}

export interface ImageStoreDeps {
  readonly directory: string;
  readonly store: Store;
  readonly clock: Clock;
  readonly ids: Ids;
  /** Of an image, compressed or raw; 64 GiB. */
  readonly mostBytes?: number;
  /** Of chunks, kept in memory; 256 MiB. */
  readonly residentBytes?: number;
}

/** Larger than any disk image should be, and small enough that a bomb ends before the disk does. */
const MOST_BYTES = 64 * 1024 ** 3;

/** Two or three images of a cloud, compressed. */
const RESIDENT_BYTES = 256 * 1024 ** 2;

/** Images by their digest: what is in the directory under a name is what the name says. */
export class ImageStore {
  /** What of it is frozen, as machines are sent it. */
  readonly frozen: FrozenImages;
  readonly #deps: ImageStoreDeps;
  readonly #directory: ChunkDirectory;

  constructor(deps: ImageStoreDeps) {
    this.#deps = deps;
    this.#directory = new ChunkDirectory(deps.directory);
    this.frozen = new FrozenImages(this.#directory, deps.residentBytes ?? RESIDENT_BYTES);
  }

  /**
   * Takes in a raw disk image compressed with zstd. Nothing is left behind unless the digest is right and the whole stream
   * decompresses. Errors: `image.digest`, `image.invalid`, `state.conflict` when name and version are taken.
   */
  /** `also` runs in the transaction that makes it known, and not for one that was known before. */
  async add(
    image: NewImage,
    content: Readable,
    also: (tx: Tx, row: ImageRow) => Promise<void> = async () => undefined,
  ): Promise<ImageRow> {
    const { directory, ids, mostBytes = MOST_BYTES } = this.#deps;
    await mkdir(directory, { recursive: true });
    const staged = join(directory, `${ids.next('incoming')}.tmp`);
    try {
      const { sha256, bytes } = await writeHashed(content, staged, mostBytes);
      if (sha256 !== image.sha256.toLowerCase()) {
        throw new RackstartError('image.digest', `The image arrived with SHA-256 ${sha256}, not ${image.sha256}.`);
      }
      const rawBytes = await decompressedBytes(staged, bytes, mostBytes);
      // Before the file has its name: one that is refused leaves nothing.
      await this.#known(this.#deps.store.read, image);
      await rename(staged, this.#file(sha256));
      await syncDirectory(directory);
      const stored = {
        sha256,
        bytes,
        raw_bytes: rawBytes,
        format: 'raw+zstd',
        map_bytes: null,
        source_sha256: null,
      } as const;
      return await this.#register(image, stored, also);
    } finally {
      await rm(staged, { force: true });
    }
  }

  /**
   * Makes an image of the raw disk in a file that nobody else writes to; the file stays. `image.sha256` is of what was sent, and
   * has been checked. Errors: as of `freeze`; `state.conflict` when name and version are taken.
   */
  async addFrozen(
    image: NewImage,
    raw: string,
    { signal, progress }: Pick<FreezeOptions, 'signal' | 'progress'>,
    also: (tx: Tx, row: ImageRow) => Promise<void> = async () => undefined,
  ): Promise<ImageRow> {
    const { store, clock, ids } = this.#deps;
    // Known with these contents: frozen all the same, since that mends what was damaged.
    await this.#known(store.read, image);
    const directory = this.#directory;
    const frozen = await freeze(raw, { directory, clock, ids, signal, ...(progress && { progress }) });
    const stored = {
      sha256: frozen.digest,
      bytes: frozen.map.bytes,
      raw_bytes: frozen.map.rawBytes,
      format: 'chunks',
      map_bytes: frozen.mapBytes,
      source_sha256: image.sha256.toLowerCase(),
    } as const;
    return this.#register(image, stored, also);
  }

  list(): Promise<ImageRow[]> {
    return images(this.#deps.store.read);
  }

  /** Where the image of this digest lies; undefined when there is none. */
  async find(sha256: string): Promise<{ path: string; bytes: number } | undefined> {
    if (!/^[0-9a-f]{64}$/.test(sha256)) return undefined;
    const path = this.#file(sha256);
    const file = await stat(path).catch(() => undefined);
    return file && { path, bytes: file.size };
  }

  #file(sha256: string): string {
    return join(this.#deps.directory, `${sha256}.zst`);
  }

  #register(
    { name, version, sha256, rootPartition, kernelArgs }: NewImage,
    stored: Stored,
    also: (tx: Tx, row: ImageRow) => Promise<void>,
  ): Promise<ImageRow> {
    const { store, ids, clock } = this.#deps;
    const row: ImageRow = {
      id: ids.next('img'),
      name,
      version,
      ...stored,
      root_partition: rootPartition,
      root_fs: 'ext4',
      kernel_args: kernelArgs,
      created_at: clock.now(),
    };
    return store.transaction(async (tx) => {
      const { numInsertedOrUpdatedRows } = await tx
        .insertInto('images')
        .values(row)
        .onConflict((conflict) => conflict.columns(['name', 'version']).doNothing())
        .executeTakeFirst();
      if (numInsertedOrUpdatedRows === 1n) {
        await also(tx, row);
        return row;
      }
      const known = await this.#known(tx, { name, version, sha256 });
      if (known !== undefined) return known;
      throw new RackstartError('internal', `The id ${row.id} was given twice.`);
    });
  }

  /** The image of this name and version, if there is one. Errors: `state.conflict` when it is another. */
  async #known(
    read: Reader,
    { name, version, sha256 }: Pick<NewImage, 'name' | 'version' | 'sha256'>,
  ): Promise<ImageRow | undefined> {
    const known = await read
      .selectFrom('images')
      .selectAll()
      .where('name', '=', name)
      .where('version', '=', version)
      .executeTakeFirst();
    const sent = known?.source_sha256 ?? known?.sha256;
    if (known === undefined || sent === sha256.toLowerCase()) return known;
    throw new RackstartError('state.conflict', `Image ${name}:${version} exists with other contents.`);
  }
}

type Stored = Pick<ImageRow, 'sha256' | 'bytes' | 'raw_bytes' | 'format' | 'map_bytes' | 'source_sha256'>;

function images(read: Reader): Promise<ImageRow[]> {
  return read.selectFrom('images').selectAll().orderBy('name').orderBy('created_at').execute();
}

async function writeHashed(
  content: Readable,
  path: string,
  mostBytes: number,
): Promise<{ sha256: string; bytes: number }> {
  const hash = createHash('sha256');
  let bytes = 0;
  await pipeline(
    content,
    async function* (chunks: AsyncIterable<Buffer>) {
      for await (const chunk of chunks) {
        hash.update(chunk);
        bytes += chunk.length;
        if (bytes > mostBytes) throw tooLarge(mostBytes);
        yield chunk;
      }
    },
    createWriteStream(path, { flush: true }),
  );
  return { sha256: hash.digest('hex'), bytes };
}

async function decompressedBytes(path: string, compressed: number, mostBytes: number): Promise<number> {
  let bytes = 0;
  const count = new Writable({
    write(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      done(bytes > mostBytes ? tooLarge(mostBytes) : null);
    },
  });
  const zstd = createZstdDecompress();
  try {
    await pipeline(createReadStream(path), zstd, count);
  } catch (cause) {
    if (cause instanceof RackstartError) throw cause;
    throw new RackstartError('image.invalid', 'The image is no whole zstd stream.', { cause });
  }
  // Node ends with the first frame, zstd does not: what follows would be written to disks uncounted, or fail there.
  if (zstd.bytesWritten !== compressed) {
    throw new RackstartError('image.invalid', 'The image is more than one zstd frame.');
  }
  return bytes;
}

function tooLarge(mostBytes: number): RackstartError {
  return new RackstartError('image.invalid', `Images over ${String(mostBytes)} bytes are not taken.`);
}
