import { RackstartError } from '../../appliance/kernel/errors.ts';
import type { DiskBytes } from './disk-bytes.ts';

/** These bytes, if the partition is that long. */
export async function within(partition: DiskBytes, offset: number, length: number): Promise<Buffer | undefined> {
  return offset + length <= partition.size ? partition.at(offset, length) : undefined;
}

export function isPowerOfTwo(value: number, least: number, most: number): boolean {
  return value >= least && value <= most && (value & (value - 1)) === 0;
}

/** Sixteen bytes as they are written and read by people. */
export function uuidText(bytes: Buffer): string {
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

export function damaged(kind: string, what: string): RackstartError {
  return new RackstartError('image.file-system', `The ${kind} ${what}.`);
}
