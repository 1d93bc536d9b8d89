import { link, rm } from 'node:fs/promises';

import { convertToRaw } from './convert.ts';
import type { DiskDescription } from './disk-description.ts';
import { describeDisk } from './disk-description.ts';
import type { SentFormat } from './declaration.ts';
import type { DiskHeader } from './disk-header.ts';
import { withDiskBytes } from './disk-bytes.ts';
import { readHeader } from './format.ts';
import { unpackZstd } from './zstd.ts';

export interface IngestOptions {
  /** What came, whole and of the digest that was declared. */
  readonly file: string;
  readonly format: SentFormat;
  /** Where several partitions could be the root: which one is. */
  readonly rootPartition?: number | undefined;
  /** Does not exist yet; on the same file system as `file`. */
  readonly rawFile: string;
  /** Of the disk in the image. */
  readonly mostBytes: number;
  readonly signal: AbortSignal;
  readonly progress?: (stage: 'converting' | 'inspecting', done: number, of: number) => void;
}

export interface IngestedDisk {
  /**
   * A raw disk that machines would boot from; nobody else has it open for writing. It is not flushed: who is killed over it, by
   * power too, makes it again from the file, and the image has what is read of it now. Its flush was a tenth of an import.
   */
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
  const { rawFile, rootPartition, signal, progress } = options;
  try {
    const header = await makeRaw(options);
    signal.throwIfAborted();
    const bytes = header.virtualSize;
    progress?.('inspecting', 0, bytes);
    const description = await withDiskBytes(rawFile, (disk) => describeDisk(disk, rootPartition));
    return { rawFile, bytes, header, description };
  } catch (error) {
    await rm(rawFile, { force: true });
    throw error;
  }
}

/** Gives the header of the disk, which a compressed one has inside. */
async function makeRaw({ file, format, rawFile, mostBytes, signal, progress }: IngestOptions): Promise<DiskHeader> {
  const converting = (done: number, of: number) => progress?.('converting', done, of);
  if (format === 'raw+zstd') {
    await unpackZstd({ file, rawFile, mostBytes, signal, progress: converting });
    return withDiskBytes(rawFile, (bytes) => readHeader(bytes, 'raw', mostBytes));
  }
  const header = await withDiskBytes(file, (bytes) => readHeader(bytes, format, mostBytes));
  // It is one already: another name of the same file, for which nothing is copied.
  if (format === 'raw') await link(file, rawFile);
  else await convertToRaw({ file, header, rawFile, signal, progress: converting });
  return header;
}
