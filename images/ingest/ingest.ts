import { link, open, rm } from 'node:fs/promises';

import { convertToRaw } from './convert.ts';
import type { DiskDescription } from './disk-description.ts';
import { describeDisk } from './disk-description.ts';
import type { DiskFormat, DiskHeader } from './disk-header.ts';
import { readHeader } from './format.ts';
import { withImageBytes } from './image-bytes.ts';

export interface IngestOptions {
  /** What came, whole and of the digest that was declared. */
  readonly file: string;
  readonly format: DiskFormat;
  /** Where several partitions could be the root: which one is. */
  readonly rootPartition?: number;
  /** Does not exist yet; on the same file system as `file`. */
  readonly rawFile: string;
  /** Of the disk in the image. */
  readonly mostBytes: number;
  readonly signal: AbortSignal;
}

export interface IngestedDisk {
  /** A raw disk that machines would boot from, on the disk; nobody else has it open for writing. */
  readonly rawFile: string;
  readonly bytes: number;
  readonly header: DiskHeader;
  readonly description: DiskDescription;
}

/**
 * From a stranger's file to a raw disk: its header is held against the declared format, then it is converted behind walls, then
 * what came out is looked at as a machine would. Whatever is refused is refused with its reason, and leaves nothing.
 *
 * Errors: those of `readHeader`, `convertToRaw` and `describeDisk`.
 */
export async function ingest(options: IngestOptions): Promise<IngestedDisk> {
  const { file, format, rootPartition, rawFile, mostBytes, signal } = options;
  const header = await withImageBytes(file, (bytes) => readHeader(bytes, format, mostBytes));
  if (format === 'raw') await asItIs(file, rawFile);
  else await convertToRaw({ file, header, rawFile, signal });
  try {
    signal.throwIfAborted();
    const description = await withImageBytes(rawFile, (bytes) => describeDisk(bytes, rootPartition));
    return { rawFile, bytes: header.virtualSize, header, description };
  } catch (error) {
    await rm(rawFile, { force: true });
    throw error;
  }
}

/** A raw disk is one already: another name of the same file, for which nothing is copied. */
async function asItIs(file: string, rawFile: string): Promise<void> {
  await link(file, rawFile);
  const handle = await open(rawFile, 'r+');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
