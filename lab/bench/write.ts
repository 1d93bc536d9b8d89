import { mkdir, mkdtemp, open, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';

import { buildWriter } from '../../images/ramdisk/writer.ts';
import { run } from '../process/run.ts';
import { lessIsBetter, median, moreIsBetter } from './report.ts';
import type { Bench, Row } from './report.ts';
import { full, halfEmpty, serveFrozen, writeRawDisk } from './write-image.ts';
import type { ServedImage } from './write-image.ts';

/**
 * The ramdisk's own stage, on this host, beside what people use to put an image onto a disk, each from the same server, which
 * has all of it in memory. `dd` of the raw image, which is in the page cache, is what the disk can take. All write past the
 * cache and end when the disk has it. bmaptool leaves what was where the image is empty: it does less.
 *
 * WRITE_MIB (4096) is the size of the image, WRITE_ROUNDS (3) how often each is run, WRITE_DIRECTORY (that of temporary files)
 * where the disk is, WRITE_ONLY a part of the names of those cases that are run (all), such as `full, to a file`.
 */
export const bench: Bench = {
  name: 'write',
  about:
    'an image onto a disk, half empty and full, to a file and a loop device; beside curl | zstd | dd, bmaptool, raw dd',

  async run(say) {
    const directory = await mkdtemp(join(process.env['WRITE_DIRECTORY'] ?? tmpdir(), 'rs-bench-write-'));
    const memory = await mkdtemp('/dev/shm/rs-bench-write-');
    try {
      const rows: Row[] = [];
      const writer = await buildWriter({ cacheDirectory: directory });
      for (const [name, isEmpty] of Object.entries({ 'half empty': halfEmpty, full })) {
        if (!DISKS.some((where) => isAsked(name, where))) continue;
        const raw = join(directory, 'raw');
        await writeRawDisk(raw, MIB_OF_IMAGE, isEmpty);
        const served = await serveFrozen(raw, directory);
        try {
          rows.push(...(await ontoEachDisk({ name, raw, served, directory, memory, writer }, say)));
        } finally {
          served.stop();
        }
      }
      return rows;
    } finally {
      await rm(directory, { recursive: true });
      await rm(memory, { recursive: true });
    }
  },
};

const MIB = 1024 * 1024;
const MIB_OF_IMAGE = Number(process.env['WRITE_MIB'] ?? 4096);
const ROUNDS = Number(process.env['WRITE_ROUNDS'] ?? 3);
const DISKS = ['a file', 'a loop device'];

function isAsked(name: string, where: string): boolean {
  return `${name}, to ${where}`.includes(process.env['WRITE_ONLY'] ?? '');
}

interface Work {
  readonly name: string;
  readonly raw: string;
  readonly served: ServedImage;
  readonly directory: string;
  readonly memory: string;
  /** Directory of the ramdisk's compiled program. */
  readonly writer: string;
}

type Say = (line: string) => void;

async function ontoEachDisk(work: Work, say: Say): Promise<Row[]> {
  const file = join(work.directory, 'disk');
  // Allocated and old, as a disk is.
  await run(['cp', '--sparse=never', work.raw, file], PATIENT);
  await run(['sync', file], PATIENT);
  const rows = isAsked(work.name, 'a file') ? await compared(work, file, 'a file', say) : [];
  if (!isAsked(work.name, 'a loop device')) return rows;
  const device = (await run(['losetup', '--find', '--show', '--partscan', '--direct-io=on', file])).trim();
  try {
    rows.push(...(await compared(work, device, 'a loop device', say)));
  } finally {
    await run(['losetup', '--detach', device]);
  }
  return rows;
}

/** All of them by turns: load and luck hit all alike. */
async function compared(work: Work, disk: string, where: string, say: Say): Promise<Row[]> {
  const commands = await ways(work, disk);
  const runs = new Map(Object.keys(commands).map((way) => [way, [] as Taken[]]));
  for (let round = 0; round < ROUNDS; round++) {
    for (const [way, command] of Object.entries(commands)) {
      await prepare(work, disk);
      const taken = await timed(command);
      runs.get(way)?.push(taken);
      say(
        `${work.name}, to ${where}: ${way} ${(MIB_OF_IMAGE / taken.seconds).toFixed(0)} MiB/s, ${taken.cpu.toFixed(1)} s CPU`,
      );
      if (way !== 'bmaptool') await run(['cmp', '-n', String(MIB_OF_IMAGE * MIB), work.raw, disk], PATIENT);
    }
  }
  const rate = (way: string) => MIB_OF_IMAGE / median((runs.get(way) ?? []).map(({ seconds }) => seconds));
  const cpu = (way: string) => (median((runs.get(way) ?? []).map((taken) => taken.cpu)) * 1024) / MIB_OF_IMAGE;
  const title = `${MIB_OF_IMAGE} MiB, ${work.name}, to ${where}`;
  const beside = (peer: string, aim: number) =>
    moreIsBetter({ case: title, unit: 'MiB/s raw', ours: rate('ours'), peer: rate(peer), peerName: peer, aim });
  return [
    beside(PIPE, 1.5),
    ...(runs.has('bmaptool') ? [beside('bmaptool', 1)] : []),
    ...(work.name === 'full' ? [beside(LIMIT, 0.9)] : []),
    // A digest of every chunk costs something.
    lessIsBetter({ case: title, unit: 'CPU s/GiB', ours: cpu('ours'), peer: cpu(PIPE), peerName: PIPE, aim: 0.75 }),
  ];
}

const PIPE = 'curl | zstd -dc | dd';
const LIMIT = 'raw dd';

async function ways({ raw, served, directory, memory, writer }: Work, disk: string): Promise<Record<string, string>> {
  const dd = `dd of=${disk} bs=4M oflag=direct conv=fsync,notrunc status=none`;
  const ours = `PATH=${writer}:$PATH SYS=${memory}/sys RUN=${memory}/run ETC=${memory} NEW=${memory}/mnt sh ${DEPLOY} image`;
  const others = { [PIPE]: `curl -sf ${served.url}/image.zst | zstd -dcq | ${dd} iflag=fullblock` };
  const limit = { [LIMIT]: `${dd} if=${raw}` };
  if ((await run(['sh', '-c', 'command -v bmaptool || :'])) === '') return { ours, ...others, ...limit };
  const bmap = join(directory, 'raw.bmap');
  await writeFile(bmap, await run(['bmaptool', 'create', raw], PATIENT));
  return { ours, ...others, bmaptool: `bmaptool -q copy --bmap ${bmap} ${served.url}/image.zst ${disk}`, ...limit };
}

const DEPLOY = join(import.meta.dirname, '../../images/ramdisk/deploy');
const PATIENT = { withinMs: 600_000 };

/** What the stage finds in a ramdisk, whose /run is memory. */
async function prepare({ served, memory, raw }: Work, disk: string): Promise<void> {
  await makeDirty(disk);
  const { image, url } = served;
  await rm(join(memory, 'run'), { recursive: true, force: true });
  const order = {
    generation: 1,
    image_map_url: `${url}/map`,
    image_map_sha256: image.digest,
    image_map_bytes: image.mapBytes,
    chunk_url: `${url}/chunk`,
    image_raw_bytes: image.map.rawBytes,
  };
  const lines = Object.entries(order).map(([name, value]) => `${name}=${value}\n`);
  const files = {
    'run/order': lines.join(''),
    'run/disk': `${disk}\n`,
    'run/url': `${url}\n`,
    'run/bearer': 'Authorization: Bearer none\n',
    'run/facts': '',
    'ca.pem': '',
    [`sys/block/${basename(disk)}/size`]: `${(await stat(raw)).size / 512}\n`,
  };
  for (const [name, content] of Object.entries(files)) {
    await mkdir(join(memory, name, '..'), { recursive: true });
    await writeFile(join(memory, name), content);
  }
}

/**
 * Something else in every chunk, so that it is seen when one is not written. Where a file has holes, punched by whoever wrote to it
 * last, all of it is written: a disk has none, and to fill them would slow down those who come next.
 */
async function makeDirty(disk: string): Promise<void> {
  const backing = (await run(['sh', '-c', `losetup --noheadings --output BACK-FILE ${disk} 2>/dev/null || :`])).trim();
  const { size, blocks } = await stat(backing === '' ? disk : backing);
  const dirt = Buffer.alloc(blocks * 512 < size ? 4 * MIB : 4096, 0xd1);
  const file = await open(disk, 'r+');
  try {
    for (let at = 0; at < MIB_OF_IMAGE * MIB; at += 4 * MIB) await file.write(dirt, 0, dirt.length, at);
    await file.sync();
  } finally {
    await file.close();
  }
}

interface Taken {
  readonly seconds: number;
  /** Of all its programs, not of the server. */
  readonly cpu: number;
}

async function timed(command: string): Promise<Taken> {
  const start = performance.now();
  // The second line of `times` is about those it has waited for: `0m1.250s 0m0.310s`.
  const script = `{ ${command}; } >&2 || exit; times`;
  const said = await run(['sh', '-c', script], PATIENT);
  const seconds = (performance.now() - start) / 1000;
  const children = said.trim().split('\n').at(-1) ?? '';
  const cpu = [...children.matchAll(/(\d+)m([\d.]+)s/g)].reduce((sum, [, m, s]) => sum + 60 * Number(m) + Number(s), 0);
  return { seconds, cpu };
}
