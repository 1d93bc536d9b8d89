import type { DiskFormat } from './disk-header.ts';
import { diskFormats } from './disk-header.ts';

/** What a sender may say that a file is: a disk in one of these formats, or a raw disk compressed with zstd. */
export const sentFormats = [...diskFormats, 'raw+zstd'] as const;
export type SentFormat = DiskFormat | 'raw+zstd';

/** What is said of a file before its first byte comes, and what image it is to become. */
export interface Declaration {
  /** Whose image it becomes; null: everyone's. */
  readonly tenantId: string | null;
  readonly name: string;
  readonly version: string;
  readonly format: SentFormat;
  /** Of the file as it is sent, hex: mandatory, and checked. */
  readonly sha256: string;
  /** Where several partitions could be the root: which one is. */
  readonly rootPartition?: number | undefined;
  readonly kernelArgs: string;
}
