import { isDeepStrictEqual } from 'node:util';

import { RackstartError } from '../../appliance/kernel/errors.ts';
import type { DiskDescription } from '../../images/ingest/disk-description.ts';
import { describeDisk } from '../../images/ingest/disk-description.ts';
import type { DiskFormat, DiskHeader } from '../../images/ingest/disk-header.ts';
import { readHeader } from '../../images/ingest/format.ts';
import type { Find, Input, OpenTarget, Target } from './campaign.ts';
import type { ImageKind, RecordedImage } from './image-inputs.ts';
import { hostileImage, recordedImages } from './image-inputs.ts';
import type { SparseImage } from './sparse-image.ts';

/**
 * The readers of image headers (qcow2, VMDK, VHDX) and of partition tables and superblocks (GPT, MBR) on hostile images.
 * Whatever comes, it is read within bounds and refused with a code of its own, or it is what was declared: then what must hold
 * is looked up again, in the bytes themselves.
 */
export function imageTarget(kind: ImageKind): OpenTarget {
  return (find) => Promise.resolve(openTarget(kind, find));
}

function openTarget(kind: ImageKind, find: Find): Target {
  const recorded = recordedImages(kind);
  const reached: Record<string, number> = {};
  const feed = async (input: Input) => {
    const image = hostileImage(input.dice.pick(recorded), input.dice);
    const outcome = await look(kind, image, input.index % 16 === 0 ? input.dice : undefined, (what) =>
      find(what, input),
    );
    reached[outcome] = (reached[outcome] ?? 0) + 1;
  };
  return {
    reached,
    feed,
    settle: () => Promise.resolve(),
    exchange: async () => {
      for (const original of recorded) await readsAsRecorded(original);
    },
    rest: () => Promise.resolve(),
    state: () => Promise.resolve(recorded.map(({ what }) => what)),
    close: () => Promise.resolve(),
  };
}

/** The code of its refusal, or `accepted`. With `dice` it is declared as another format than the one it was made of. */
async function look(
  kind: ImageKind,
  image: SparseImage,
  dice: Input['dice'] | undefined,
  find: (what: string) => void,
): Promise<string> {
  let reads = 0;
  const bytes = image.opened((offset, length) => {
    reads += length;
    if (offset < 0 || offset + length > image.size) find(`read ${length} bytes at ${offset} of ${image.size}`);
  });
  try {
    if (kind === 'gpt' || kind === 'mbr') holds(image, await describeDisk(bytes), find);
    else {
      const declared = dice?.pick(['raw', 'qcow2', 'vmdk', 'vhdx'] as const) ?? kind;
      holdsHeader(image, declared, await readHeader(bytes, declared, MOST_DISK), find);
    }
    return 'accepted';
  } catch (error) {
    if (!(error instanceof RackstartError) || !/^image\./.test(error.code)) find(`threw ${String(error)}`);
    else if (/undefined|NaN|\[object/.test(error.message)) find(`says nothing: ${error.message}`);
    return error instanceof RackstartError ? error.code : 'threw';
  } finally {
    if (reads > MOST_READ) find(`read ${reads} bytes`);
  }
}

/** What a header that was accepted must say, read by other hands. */
function holdsHeader(image: SparseImage, declared: DiskFormat, header: DiskHeader, find: (what: string) => void): void {
  const start = image.read(0, 512);
  const { virtualSize } = header;
  if (header.format !== declared) find(`declared ${declared}, taken for ${header.format}`);
  if (!Number.isSafeInteger(virtualSize) || virtualSize <= 0 || virtualSize > MOST_DISK)
    find(`a disk of ${virtualSize}`);
  const claims: Readonly<Record<DiskFormat, () => readonly boolean[]>> = {
    raw: () => [virtualSize === image.size, !MAGICS.some((magic) => start.toString('latin1', 0, 8).startsWith(magic))],
    qcow2: () => [
      start.toString('latin1', 0, 4) === 'QFI\xfb',
      start.readBigUInt64BE(8) === 0n,
      start.readBigUInt64BE(24) === BigInt(virtualSize),
      start.readUInt32BE(32) === 0,
      start.readUInt32BE(60) === 0,
      start.readUInt32BE(4) === 2 || (start.readBigUInt64BE(72) & 0b110n) === 0n,
    ],
    vmdk: () => {
      const text = image
        .read(Number(start.readBigUInt64LE(28)) * 512, Number(start.readBigUInt64LE(36)) * 512)
        .toString('latin1');
      return [
        start.readBigUInt64LE(12) * 512n === BigInt(virtualSize),
        !/parentFileNameHint|changeTrackPath|FLAT|\//i.test(text.replace(/^#.*$/gm, '').replace(/^ddb\..*$/gm, '')),
        (text.match(/^\s*RW /gm) ?? []).length === 1,
      ];
    },
    vhdx: () => [start.toString('latin1', 0, 8) === 'vhdxfile', virtualSize % 512 === 0],
  };
  const broken = claims[declared]().indexOf(false);
  if (broken >= 0) find(`accepted as ${declared} against claim ${broken}`);
}

function holds(image: SparseImage, disk: DiskDescription, find: (what: string) => void): void {
  const sum = disk.partitions.reduce((bytes, partition) => bytes + partition.bytes, 0);
  if (disk.bytes !== image.size || sum >= image.size) find(`${sum} bytes of partitions on a disk of ${image.size}`);
  if (disk.firmware.length === 0) find('nothing starts it');
  const root = disk.partitions.find(({ number }) => number === disk.root.partition);
  if (root?.holds !== disk.root.fileSystem)
    find(`the root is in partition ${disk.root.partition}, which holds ${String(root?.holds)}`);
}

/** The good exchange. */
async function readsAsRecorded({ kind, what, disk, image }: RecordedImage): Promise<void> {
  const bytes = image.opened(() => undefined);
  const size =
    kind === 'gpt' || kind === 'mbr'
      ? (await describeDisk(bytes)).bytes
      : (await readHeader(bytes, kind, MOST_DISK)).virtualSize;
  if (!isDeepStrictEqual(size, disk)) throw new Error(`${what} is read as ${size} bytes`);
}

const MAGICS = ['QFI\xfb', 'KDMV', 'COWD', 'vhdxfile'];
const MOST_DISK = 64 * 1024 ** 2;
// What the budget of a file allows.
const MOST_READ = 64 * 1024 ** 2;
