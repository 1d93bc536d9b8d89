import { open, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

import { RackstartError } from '../../appliance/kernel/errors.ts';
import type { DiskFormat, DiskHeader } from './disk-header.ts';
import { roomIn, storeFull } from './disk-room.ts';
import type { SandboxEnd } from './sandbox.ts';
import { runInSandbox } from './sandbox.ts';

export interface Conversion {
  readonly file: string;
  /** As `readHeader` found it in that file. */
  readonly header: DiskHeader;
  /** Does not exist yet; a raw disk of exactly `header.virtualSize` bytes afterwards, its zeros as holes. */
  readonly rawFile: string;
  readonly signal: AbortSignal;
  /** Of the disk, in bytes. */
  readonly progress?: (done: number, of: number) => void;
}

/**
 * Makes a raw disk of an image, by qemu-img in a sandbox. The driver is named and so is its one file, so that nothing is
 * probed; no other file is within its reach, whatever the image names. Nothing stays at `rawFile` when it fails.
 *
 * Errors: `image.store-full` when the whole disk would not fit beside what is there; `image.invalid` when qemu-img finds the
 * image wrong, or takes more memory or time than an honest image needs.
 */
export async function convertToRaw({ file, header, rawFile, signal, progress }: Conversion): Promise<void> {
  const { virtualSize, format } = header;
  await requireRoom(dirname(rawFile), virtualSize);
  await createSparse(rawFile, virtualSize);
  try {
    const end = await runInSandbox({
      program: '/usr/bin/qemu-img',
      args: convertArguments(format),
      readable: { '/image': file },
      writable: { '/raw': rawFile },
      limits: { memoryBytes: MEMORY_BYTES, cpuSeconds: cpuSeconds(virtualSize), fileBytes: virtualSize },
      signal,
      told: (text) => {
        // "    (12.34/100%)", and then a carriage return.
        const percent = text.match(/[\d.]+(?=\/100%)/g)?.at(-1);
        if (percent !== undefined) progress?.(Math.round((virtualSize * Number(percent)) / 100), virtualSize);
      },
    });
    if (end.code !== 0) throw failed(end, header);
    await requireWhole(rawFile, virtualSize);
  } catch (error) {
    await rm(rawFile, { force: true });
    throw error;
  }
}

/** `-n` and a target that is zero already: it neither makes nor stretches the file, and leaves out what is zero. */
function convertArguments(format: DiskFormat): string[] {
  const source = { driver: format, ...(BACKED.includes(format) && { backing: null }), file: fileNode('/image') };
  const target = `driver=raw,file.driver=file,file.filename=/raw,file.locking=off`;
  return ['convert', '-p', '-n', '--target-is-zero', '--target-image-opts', `json:${JSON.stringify(source)}`, target];
}

function fileNode(filename: string): Record<string, string> {
  return { driver: 'file', filename, locking: 'off' };
}

// Formats in which a file can name another that it stands on: not that one, whatever it says.
const BACKED: readonly DiskFormat[] = ['qcow2', 'vmdk'];

async function requireRoom(directory: string, bytes: number): Promise<void> {
  const free = await roomIn(directory);
  if (bytes > free) throw storeFull('The disk in the image has no room', bytes, free);
}

async function createSparse(path: string, bytes: number): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    await file.truncate(bytes);
  } finally {
    await file.close();
  }
}

async function requireWhole(path: string, bytes: number): Promise<void> {
  const { size } = await stat(path);
  if (size === bytes) return;
  throw new RackstartError('image.invalid', `The disk came out with ${size} bytes, not ${bytes}.`);
}

function failed({ code, killedBy, output }: SandboxEnd, { format }: DiskHeader): RackstartError {
  if (/No space left on device|Disk quota exceeded/.test(output)) {
    return new RackstartError('image.store-full', 'The disk became full while the image was converted.');
  }
  const how = LIMITS[killedBy ?? ''] ?? `qemu-img ended with ${String(code ?? killedBy)}`;
  const said = output === '' ? '' : `: ${output.split('\n').slice(-3).join('; ')}`;
  return new RackstartError('image.invalid', `The ${format} can't be read: ${how}${said}`, {
    details: { code, killedBy },
  });
}

const LIMITS: Readonly<Record<string, string>> = {
  SIGXCPU: 'it takes more processor time than an honest image of its size',
  SIGXFSZ: 'its disk is larger than its header says',
};

/** What qemu-img takes of address space for a cloud image is under 300 MiB, measured; threads for slow disks take 8 MiB each. */
const MEMORY_BYTES = 1024 ** 3;

/** Inflating goes at 100 MB/s and more; a tenth of that is allowed. */
function cpuSeconds(virtualSize: number): number {
  return 30 + Math.ceil(virtualSize / 10_000_000);
}
