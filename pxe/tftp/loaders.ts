import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { RackstartError } from '../../appliance/kernel/errors.ts';
import type { TftpFiles } from './server.ts';

/**
 * The name of the iPXE loader for a client's architecture (DHCP option 93, RFC 4578 §2.1 with the IANA registry's
 * corrections); undefined where iPXE has none that we serve, such as 32-bit UEFI (6).
 */
export function loaderFor(architecture: number): string | undefined {
  return LOADERS.get(architecture);
}

export interface LoaderPaths {
  /** Where Debian's package `ipxe` keeps its loaders. */
  readonly directory?: string;
  /** An iPXE for arm64; the package in Debian 12 has none. */
  readonly arm64?: string | undefined;
}

/** Every loader in memory, read once. Throws `host.missing` naming what is not there. */
export async function readLoaders({ directory = '/usr/lib/ipxe', arm64 }: LoaderPaths = {}): Promise<TftpFiles> {
  const files = new Map<string, Buffer>();
  for (const name of [BIOS, UEFI_X64]) files.set(name, await read(join(directory, name), 'Debian package ipxe'));
  if (arm64 !== undefined) files.set(UEFI_ARM64, await read(arm64, 'the iPXE for arm64 named in the configuration'));
  return files;
}

// Both loaders drive the NIC through the firmware that has just used it, so that there is a driver for every card.
const BIOS = 'undionly.kpxe';
const UEFI_X64 = 'snponly.efi';
const UEFI_ARM64 = 'snponly-arm64.efi';

// RFC 4578 gave 7 to EFI byte code and 9 to x64; firmware sends 7 for x64, and the registry followed it.
const LOADERS: ReadonlyMap<number, string> = new Map([
  [0, BIOS],
  [7, UEFI_X64],
  [9, UEFI_X64],
  [11, UEFI_ARM64],
]);

async function read(path: string, origin: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw new RackstartError('host.missing', `${path} cannot be read: ${origin} is missing`, { cause });
  }
}
