import { rmSync } from 'node:fs';
import { mkdtemp, open, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { systemClock } from '../../appliance/kernel/clock.ts';
import { createIds } from '../../appliance/kernel/ids.ts';
import { ChunkDirectory } from '../../images/chunk-directory.ts';
import { freeze } from '../../images/freeze.ts';
import { ingest } from '../../images/ingest/ingest.ts';
import { tinyDisk } from '../disk/tiny-disk.ts';
import { onAbruptEnd } from '../process/abrupt-end.ts';
import { run } from '../process/run.ts';
import { median, moreIsBetter } from './report.ts';
import type { Bench, Row } from './report.ts';
import { halfEmpty, writeRawDisk } from './write-image.ts';

/**
 * From the file that somebody sends to what is served: the file's header held against its format, converted behind walls, looked
 * at, cut into chunks, each compressed, unpacked again and compared, and on the disk. The peer converts and compresses, looks at
 * nothing, and ends when the disk has the compressed file.
 *
 * CONVERT_MIB (2048) is the size of the disk, half of it empty; CONVERT_ROUNDS (3) how often each is run.
 */
export const bench: Bench = {
  name: 'convert',
  about: 'qcow2 and VMDK, as clouds publish them, to a frozen image; beside qemu-img convert and zstd -3 -T0',

  async run(say) {
    const directory = await mkdtemp(join(tmpdir(), 'rs-bench-convert-'));
    const remove = () => rmSync(directory, { recursive: true, force: true });
    const cancel = onAbruptEnd(remove);
    try {
      const raw = join(directory, 'disk');
      await writeRawDisk(raw, MIB_OF_DISK, halfEmpty);
      await makeBootable(raw);
      const rows: Row[] = [];
      for (const { format, options } of made) {
        const file = join(directory, format);
        await run(['qemu-img', 'convert', '-f', 'raw', '-O', format, ...options, raw, file], PATIENT);
        rows.push(await compared({ format, file, directory }, say));
        await rm(file);
      }
      return rows;
    } finally {
      remove();
      cancel();
    }
  },
};

const MIB = 1024 ** 2;
const MIB_OF_DISK = Number(process.env['CONVERT_MIB'] ?? 2048);
const ROUNDS = Number(process.env['CONVERT_ROUNDS'] ?? 3);
const PATIENT = { withinMs: 300_000 };

/** Compressed both. */
const made = [
  { format: 'qcow2', options: ['-c'] },
  { format: 'vmdk', options: ['-o', 'subformat=streamOptimized'] },
] as const;

interface Sent {
  readonly format: (typeof made)[number]['format'];
  readonly file: string;
  readonly directory: string;
}

/** Or it would be refused. */
async function makeBootable(raw: string): Promise<void> {
  const file = await open(raw, 'r+');
  try {
    await file.write(tinyDisk(), 0, null, 0);
  } finally {
    await file.close();
  }
}

/** By turns: load and luck hit both alike. */
async function compared(sent: Sent, say: (line: string) => void): Promise<Row> {
  const { format, file } = sent;
  const runs = { ours: [] as number[], peer: [] as number[] };
  for (let round = 0; round < ROUNDS; round++) {
    for (const [who, work] of [
      ['ours', ours],
      ['peer', peer],
    ] as const) {
      const began = performance.now();
      const parts = await work(sent);
      const rate = (MIB_OF_DISK * 1000) / (performance.now() - began);
      runs[who].push(rate);
      say(`${format}: ${who} ${rate.toFixed(0)} MiB/s raw; ${parts}`);
    }
  }
  const mib = ((await stat(file)).size / MIB).toFixed(0);
  return moreIsBetter({
    case: `${format}, ${mib} MiB, of a disk of ${MIB_OF_DISK} MiB`,
    unit: 'MiB/s raw',
    ours: median(runs.ours),
    peer: median(runs.peer),
    peerName: 'qemu-img + zstd -3 -T0',
    aim: 1,
  });
}

/** Tells how long its parts took. */
async function ours({ format, file, directory }: Sent): Promise<string> {
  const rawFile = join(directory, 'converted');
  const store = new ChunkDirectory(join(directory, 'images'));
  const signal = new AbortController().signal;
  try {
    const began = performance.now();
    await ingest({ file, format, rawFile, mostBytes: 2 * MIB_OF_DISK * MIB, signal });
    const converted = performance.now();
    await freeze(rawFile, { directory: store, clock: systemClock, ids: createIds(systemClock), signal });
    return told(converted - began, performance.now() - converted);
  } finally {
    await Promise.all([rawFile, store.path].map((path) => rm(path, { recursive: true, force: true })));
  }
}

async function peer({ format, file, directory }: Sent): Promise<string> {
  const [raw, compressed] = [join(directory, 'converted'), join(directory, 'converted.zst')];
  try {
    const began = performance.now();
    await run(['qemu-img', 'convert', '-f', format, '-O', 'raw', file, raw], PATIENT);
    const converted = performance.now();
    await run(['zstd', '-q', '-3', '-T0', raw, '-o', compressed], PATIENT);
    await run(['sync', compressed], PATIENT);
    return told(converted - began, performance.now() - converted);
  } finally {
    await Promise.all([raw, compressed].map((path) => rm(path, { force: true })));
  }
}

function told(converting: number, freezing: number): string {
  return `converted in ${(converting / 1000).toFixed(2)} s, compressed in ${(freezing / 1000).toFixed(2)} s`;
}
