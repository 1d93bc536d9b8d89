import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { RackstartError } from '../../appliance/kernel/errors.ts';
import { concatenateArchives, newcArchive } from './newc.ts';

/** A file kept in memory: it is small, and every machine of a rack asks for it at once. */
export interface ResidentFile {
  readonly bytes: Buffer;
  /** SHA-256 of the bytes, hex. */
  readonly sha256: string;
}

export interface RamdiskFiles {
  readonly kernel: ResidentFile;
  readonly initrd: ResidentFile;
  /** Of kernel and initrd as they were built, 16 hex digits: the same wherever the same build is served. */
  readonly version: string;
}

/**
 * Reads `vmlinuz` and `initrd` from `directory` and appends to the initrd, below /etc/rackstart, this appliance's CA certificate
 * as `ca.pem`, so that one built ramdisk serves any appliance, and the ramdisk's version as `version`.
 *
 * Error: `host.missing` when the ramdisk has not been built.
 */
export async function loadRamdisk(directory: string, caPem: string): Promise<RamdiskFiles> {
  const [kernel, initrd] = await Promise.all([read(join(directory, 'vmlinuz')), read(join(directory, 'initrd'))]);
  const version = createHash('sha256').update(kernel).update(initrd).digest('hex').slice(0, 16);
  const pinned = newcArchive([
    { path: 'etc', mode: 0o755 },
    { path: 'etc/rackstart', mode: 0o755 },
    { path: 'etc/rackstart/ca.pem', mode: 0o644, content: Buffer.from(caPem) },
    { path: 'etc/rackstart/version', mode: 0o644, content: Buffer.from(`${version}\n`) },
  ]);
  return { kernel: resident(kernel), initrd: resident(concatenateArchives([initrd, pinned])), version };
}

async function read(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw new RackstartError('host.missing', `The ramdisk's ${path} is missing; build the ramdisk first.`, { cause });
  }
}

function resident(bytes: Buffer): ResidentFile {
  return { bytes, sha256: createHash('sha256').update(bytes).digest('hex') };
}
