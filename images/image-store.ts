import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

import type { Clock } from '../appliance/kernel/clock.ts';
import { RackstartError } from '../appliance/kernel/errors.ts';
import type { Ids } from '../appliance/kernel/ids.ts';
import type { ImageRow } from '../appliance/store/schema.ts';
import type { Reader, Store, Tx } from '../appliance/store/store.ts';
import { ChunkDirectory } from './chunk-directory.ts';
import type { FreezeOptions, FrozenImage } from './freeze.ts';
import { freeze } from './freeze.ts';
import { FrozenImages } from './frozen-images.ts';
import type { Declaration } from './ingest/declaration.ts';
import type { DiskDescription } from './ingest/disk-description.ts';
import { isDiskFull } from './ingest/disk-room.ts';
import { ingest } from './ingest/ingest.ts';

/** A disk that was looked at, and what image it becomes. */
export interface NewImage {
  readonly declared: Declaration;
  readonly disk: DiskDescription;
}

/** In the transaction that makes an image known; `isNew` is false for one that was known before. */
export type Also = (tx: Tx, row: ImageRow, isNew: boolean) => Promise<void>;

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

/** Images by the digest of their map: what is in the directory under a name is what the name says. */
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
   * Takes in a raw disk image compressed with zstd, looks at it and freezes it. Nothing is left behind unless the digest is right,
   * the whole stream unpacks, and a machine would boot from the disk.
   *
   * Errors: `image.digest`, and those of `requireFree`, `ingest` and `addFrozen`.
   */
  async add(declared: Declaration, content: Readable, also: Also = nothingElse): Promise<ImageRow> {
    const { directory, ids, mostBytes = MOST_BYTES } = this.#deps;
    await this.requireFree(declared);
    await mkdir(directory, { recursive: true });
    const staged = join(directory, `${ids.next('incoming')}.tmp`);
    const rawFile = `${staged}.raw`;
    const { signal } = new AbortController();
    try {
      const sha256 = await writeHashed(content, staged, mostBytes);
      if (sha256 !== declared.sha256.toLowerCase()) {
        throw new RackstartError('image.digest', `The image arrived with SHA-256 ${sha256}, not ${declared.sha256}.`);
      }
      const { format, rootPartition } = declared;
      const { description } = await ingest({ file: staged, format, rootPartition, rawFile, mostBytes, signal });
      return await this.addFrozen({ declared, disk: description }, rawFile, { signal }, also);
    } finally {
      await Promise.all([staged, rawFile].map((file) => rm(file, { force: true })));
    }
  }

  /**
   * Makes an image of the raw disk in a file that nobody else writes to; the file stays. The digest that was declared is of what
   * was sent, and has been checked. Errors: as of `freeze` and `requireFree`.
   */
  async addFrozen(
    image: NewImage,
    raw: string,
    { signal, progress }: Pick<FreezeOptions, 'signal' | 'progress'>,
    also: Also = nothingElse,
  ): Promise<ImageRow> {
    const { clock, ids } = this.#deps;
    // Known with these contents: frozen all the same, since that mends what was damaged.
    await this.requireFree(image.declared);
    const directory = this.#directory;
    const frozen = await freeze(raw, { directory, clock, ids, signal, ...(progress && { progress }) });
    return this.#register(image, frozen, also);
  }

  /** Errors: `state.conflict` when its owner has another image of this name and version. */
  async requireFree(declared: Declaration, read: Reader = this.#deps.store.read): Promise<void> {
    await known(read, declared);
  }

  #register({ declared, disk }: NewImage, { digest, map, mapBytes }: FrozenImage, also: Also): Promise<ImageRow> {
    const { store, ids, clock } = this.#deps;
    const row: ImageRow = {
      id: ids.next('img'),
      tenant_id: declared.tenantId,
      name: declared.name,
      version: declared.version,
      sha256: digest,
      bytes: map.bytes,
      raw_bytes: map.rawBytes,
      map_bytes: mapBytes,
      source_sha256: declared.sha256.toLowerCase(),
      source_format: declared.format,
      partition_table: disk.table,
      root_partition: disk.root.partition,
      root_fs: disk.root.fileSystem,
      kernel_args: declared.kernelArgs,
      has_mdadm: disk.root.hasMdadm === undefined ? null : Number(disk.root.hasMdadm),
      created_at: clock.now(),
      deprecated_at: null,
      deleted_at: null,
    };
    return store.transaction(async (tx) => {
      const { numInsertedOrUpdatedRows } = await tx
        .insertInto('images')
        .values(row)
        .onConflict((conflict) => conflict.doNothing())
        .executeTakeFirst();
      const isNew = numInsertedOrUpdatedRows === 1n;
      const image = isNew ? row : await known(tx, declared);
      if (image === undefined) throw new RackstartError('internal', `The id ${row.id} was given twice.`);
      await also(tx, image, isNew);
      return image;
    });
  }
}

const nothingElse: Also = () => Promise.resolve();

/** The image of this owner, name and version, if there is one. Errors: `state.conflict` when it is another. */
async function known(read: Reader, { tenantId, name, version, sha256 }: Declaration): Promise<ImageRow | undefined> {
  const row = await read
    .selectFrom('images')
    .selectAll()
    .where('tenant_id', tenantId === null ? 'is' : '=', tenantId)
    .where('name', '=', name)
    .where('version', '=', version)
    .where('deleted_at', 'is', null)
    .executeTakeFirst();
  if (row === undefined || row.source_sha256 === sha256.toLowerCase()) return row;
  throw new RackstartError('state.conflict', `Image ${name}:${version} exists with other contents.`);
}

async function writeHashed(content: Readable, path: string, mostBytes: number): Promise<string> {
  const hash = createHash('sha256');
  let bytes = 0;
  try {
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
  } catch (cause) {
    if (!isDiskFull(cause)) throw cause;
    throw new RackstartError('image.store-full', 'The image store became full while the image arrived.', { cause });
  }
  return hash.digest('hex');
}

function tooLarge(mostBytes: number): RackstartError {
  return new RackstartError('image.too-large', `Images over ${String(mostBytes)} bytes are not taken.`);
}
