import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';

import { ChunkDirectory } from '../../images/chunk-directory.ts';
import { freeze } from '../../images/freeze.ts';
import type { FrozenSource } from '../../images/frozen-images.ts';
import { FrozenImages } from '../../images/frozen-images.ts';
import { CHUNK_BYTES } from '../../images/zstd-frames.ts';
import { Dice } from './dice.ts';
import type { Site } from './site.ts';

/** What is served of a frozen image under one path. */
export interface ServedFile {
  readonly kind: 'map' | 'whole' | 'chunk';
  readonly path: string;
  /** Its entity tag is this, in quotes. */
  readonly digest: string;
  readonly content: Buffer;
}

export interface FuzzedImage {
  readonly source: FrozenSource;
  /** The map first, then the whole file, then each chunk. */
  readonly served: readonly ServedFile[];
  /** What is stored of it. */
  readonly files: () => readonly string[];
}

/** A disk of a chunk that is sent in two pieces, two small ones, and zeros between them, frozen as an upload is. */
export async function frozenImage({
  directory,
  clock,
  ids,
}: Pick<Site, 'directory' | 'clock' | 'ids'>): Promise<FuzzedImage> {
  const raw = join(directory, 'disk.raw');
  const dice = new Dice('frozen image');
  const disk = Buffer.alloc(6 * CHUNK_BYTES + 3 * 512);
  for (const [at, length] of [
    [0, 300_000],
    [CHUNK_BYTES, 900],
    [6 * CHUNK_BYTES, 700],
  ] as const)
    dice.bytes(length).copy(disk, at);
  writeFileSync(raw, disk);
  const images = new ChunkDirectory(join(directory, 'images'));
  const signal = new AbortController().signal;
  const { digest, map } = await freeze(raw, { directory: images, clock, ids, signal, threads: 1 });
  const source = new FrozenImages(images, MEMORY);
  const whole = await source.image(digest);
  if (whole === undefined) throw new Error('what was frozen is not there');
  const content = await buffer(Readable.from(whole.read(0, whole.bytes - 1)));
  const chunks = map.segments.flatMap((segment) => (segment.kind === 'chunk' ? [segment.sha256] : []));
  return {
    source,
    served: [
      { kind: 'map', path: `/image/${digest}/map`, digest, content: readFileSync(images.mapFile(digest)) },
      { kind: 'whole', path: `/image/${digest}/image.zst`, digest, content },
      ...chunks.map((sha256): ServedFile => {
        const file = readFileSync(images.chunkFile(sha256));
        return { kind: 'chunk', path: `/chunk/${sha256}`, digest: sha256, content: file };
      }),
    ],
    files: () => readdirSync(images.path, { recursive: true, encoding: 'utf8' }).sort(),
  };
}

// Room for the large chunk alone: it and the others take turns in there.
const MEMORY = 301_000;
