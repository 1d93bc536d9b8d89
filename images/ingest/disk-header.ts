/** What the sender says the file is. Never guessed: what a guess reads is up to whoever wrote the file. */
export const diskFormats = ['raw', 'qcow2', 'vmdk', 'vhdx'] as const;
export type DiskFormat = (typeof diskFormats)[number];

export interface DiskHeader {
  readonly format: DiskFormat;
  /** Such as `version 3` or `streamOptimized`. */
  readonly variant: string;
  /** Bytes of the disk that the file holds: what the raw file will have. */
  readonly virtualSize: number;
}
