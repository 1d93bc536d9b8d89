import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';

import type { Clock } from '../appliance/kernel/clock.ts';
import { RackstartError, hasCode } from '../appliance/kernel/errors.ts';
import type { ImageImportRow } from '../appliance/store/schema.ts';
import { absent } from './chunk-directory.ts';
import type { Also, ImageStore } from './image-store.ts';
import type { Declaration } from './ingest/declaration.ts';
import { isDiskFull } from './ingest/disk-room.ts';
import type { ImportDeps } from './ingest/import.ts';
import { importImage } from './ingest/import.ts';
import { ingest } from './ingest/ingest.ts';
import { sha256OfFile } from './ingest/sha256.ts';

/** How far an image import is; `waiting` has not got its turn. */
export interface ImportProgress {
  readonly stage: 'waiting' | 'fetching' | 'hashing' | 'converting' | 'inspecting' | 'freezing';
  /** Bytes of this stage. */
  readonly done: number;
  /** null where nobody knows. */
  readonly total: number | null;
}

export interface MakeImageDeps {
  readonly clock: Clock;
  readonly images: ImageStore;
  /** From where, and how much at most, images are fetched. */
  readonly fetching: Omit<ImportDeps, 'clock'>;
  /** Of the disk in an image. */
  readonly mostBytes: number;
}

export interface Making {
  /** Its own. What lies there of an earlier try is gone on with; the whole is removed by whoever made it. */
  readonly directory: string;
  readonly signal: AbortSignal;
  readonly progress: (progress: ImportProgress) => void;
  /** In the transaction that makes the image known. */
  readonly also: Also;
}

/**
 * One image import: the file, its digest, a raw disk, what is on it, chunks. Any number of times, until it has ended.
 * Errors: those of `importImage`, `ingest` and `ImageStore.addFrozen`.
 */
export async function makeImage(row: ImageImportRow, deps: MakeImageDeps, making: Making): Promise<void> {
  const { directory, signal, progress, also } = making;
  const rawFile = join(directory, 'raw');
  const tell = (stage: ImportProgress['stage']) => (done: number, total: number | null) =>
    progress({ stage, done, total });
  try {
    // Of a daemon that was killed over it.
    await rm(rawFile, { force: true });
    const file = await obtain(row, deps, making);
    const { format, rootPartition } = declarationOf(row);
    const { mostBytes } = deps;
    const inspected = await ingest({
      ...{ file, format, rootPartition, rawFile, mostBytes, signal },
      progress: (stage, done, of) => tell(stage)(done, of),
    });
    const image = { declared: declarationOf(row), disk: inspected.description };
    tell('freezing')(0, inspected.bytes);
    await deps.images.addFrozen(image, rawFile, { signal, progress: tell('freezing') }, also);
  } catch (cause) {
    if (!isDiskFull(cause)) throw cause;
    throw new RackstartError('image.store-full', 'The disk of the image store became full.', { cause });
  }
}

export function declarationOf(row: ImageImportRow): Declaration {
  const { tenant_id, name, version, format, sha256, root_partition, kernel_args } = row;
  const rootPartition = root_partition ?? undefined;
  return { tenantId: tenant_id, name, version, format, sha256, rootPartition, kernelArgs: kernel_args };
}

/** The file, whole and with its digest. */
async function obtain(row: ImageImportRow, { clock, fetching }: MakeImageDeps, making: Making): Promise<string> {
  const { url, sha256, tenant_id, reserved_bytes } = row;
  const { directory, signal, progress } = making;
  const file = join(directory, 'image');
  if (await isWhole(file)) {
    const found = await sha256OfFile(file, signal, (done, total) => progress({ stage: 'hashing', done, total }));
    if (found === sha256) return file;
    if (url === null) {
      throw new RackstartError('image.digest', `The file arrived with SHA-256 ${found}, not ${sha256}.`);
    }
  }
  if (url === null) throw new RackstartError('image.interrupted', 'What was uploaded is not here any more.');
  const { limits } = fetching;
  const mostBytes = tenant_id === null ? limits.mostBytes : Math.min(limits.mostBytes, reserved_bytes);
  try {
    await importImage(
      { url, sha256, file, signal, progress: (stage, done, total) => progress({ stage, done, total }) },
      { ...fetching, clock, limits: { ...limits, mostBytes } },
    );
  } catch (cause) {
    if (mostBytes === limits.mostBytes || !hasCode(cause, 'image.too-large')) throw cause;
    const why = `The file there has more than the ${mostBytes} bytes that are left for images of this tenant.`;
    throw new RackstartError('quota.exceeded', why, { cause });
  }
  return file;
}

/** Something is there, and nobody is fetching it: `importImage` says so by a file beside it. */
async function isWhole(file: string): Promise<boolean> {
  if ((await stat(`${file}.source`).catch(absent)) !== undefined) return false;
  return ((await stat(file).catch(absent))?.size ?? 0) > 0;
}
