import { statfs } from 'node:fs/promises';

import { RackstartError } from '../../appliance/kernel/errors.ts';

/** How many bytes a file in this directory may still take: what is free, less what the daemon's database and log are left. */
export async function roomIn(directory: string): Promise<number> {
  const { bavail, bsize } = await statfs(directory);
  return Math.max(0, bavail * bsize - KEPT_FREE);
}

export function storeFull(what: string, needed: number, free: number): RackstartError {
  return new RackstartError('image.store-full', `${what}: ${needed} bytes are needed, and ${free} are free for it.`, {
    details: { needed, free },
  });
}

/** A write that met a full disk, or its owner's quota on it. */
export function isDiskFull(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOSPC' || error.code === 'EDQUOT');
}

const KEPT_FREE = 256 * 1024 ** 2;
