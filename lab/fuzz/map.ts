import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual, promisify } from 'node:util';

import type { Part } from '../../images/chunk-map.ts';
import { formatChunkMap, layOut, parseChunkMap } from '../../images/chunk-map.ts';
import type { Find, Input, Target } from './campaign.ts';
import { Dice } from './dice.ts';
import type { MapInput } from './map-inputs.ts';
import { goodMap, hostileMap } from './map-inputs.ts';

/**
 * The ramdisk's reading of chunk maps (`make_plan` of images/ramdisk/chunks.sh), by the awk that the ramdisk has and by
 * Debian's: whatever a map says, what is planned covers each byte of the disk that was ordered once, and none beyond it; what
 * the appliance takes for a map is planned to the letter; what it would refuse is refused. The two awks agree.
 */
export function openMap(find: Find, seed: number): Promise<Target> {
  const directory = mkdtempSync(join(process.env['TMPDIR'] ?? tmpdir(), 'rs-maps-'));
  const awks = [busyboxAwk(directory), ''];
  const reached: Record<string, number> = {};
  let waiting: (MapInput & { readonly input: Input })[] = [];
  const settle = async () => {
    const maps = waiting;
    waiting = [];
    const both = maps.filter((_, at) => at % BOTH === 0);
    const [plans, others] = await Promise.all([plan(directory, awks[0]!, maps), plan(directory, awks[1]!, both)]);
    for (const [at, map] of maps.entries()) {
      const planned = plans[at];
      if (at % BOTH === 0 && !isDeepStrictEqual(planned, others[at / BOTH])) find(`two awks: ${tell(map)}`, map.input);
      const outcome = planned === undefined ? refused(map) : accepted(map, planned);
      reached[outcome] = (reached[outcome] ?? 0) + 1;
      if (outcome.startsWith('WRONG')) find(`${outcome}: ${tell(map)}`, map.input);
    }
  };
  return Promise.resolve({
    reached,
    feed(input) {
      waiting.push({ input, ...hostileMap(input.dice) });
    },
    settle,
    async exchange() {
      const maps = Array.from({ length: 5 }, (_, number) => goodMap(new Dice('map', seed, 'good', number)));
      const plans = await plan(directory, awks[0]!, maps);
      if (maps.some((map, at) => plans[at] === undefined || accepted(map, plans[at]) !== 'planned'))
        throw new Error('a good map is not planned as it says');
    },
    rest: () => Promise.resolve(),
    state: () => Promise.resolve([]),
    close() {
      rmSync(directory, { recursive: true });
      return Promise.resolve();
    },
  });
}

// Every so many maps are read by both awks, for the time that takes.
const BOTH = 4;

interface Piece {
  readonly from: number;
  readonly length: number;
}

interface PlannedChunk extends Piece {
  readonly compressed: number;
  readonly sha256: string;
}

/** Where each byte of the disk comes from. */
interface Planned {
  readonly chunks: readonly PlannedChunk[];
  /** Those that make the disk bootable, in the order in which they are written when all else is there. */
  readonly held: readonly PlannedChunk[];
  readonly zeros: readonly Piece[];
  readonly rawSha256: string;
}

function accepted({ text, raw }: MapInput, { chunks, held, zeros, rawSha256 }: Planned): string {
  const pieces = [...chunks, ...held, ...zeros].sort((a, b) => a.from - b.from);
  const end = pieces.reduce((at, { from, length }) => (from === at && length > 0 ? at + length : NaN), 0);
  if (end !== raw) return 'WRONG: not each byte of the disk once';
  const said = text
    .toString('latin1')
    .replace(/\n$/, '')
    .split('\n')
    .slice(1)
    .map((line) => line.split(' '))
    .map(([kind, from, length, , compressed, sha256 = '']) => {
      return { kind, from: Number(from), length: Number(length), compressed: Number(compressed), sha256 };
    });
  const named = said.flatMap(({ kind, ...chunk }) => (kind === 'chunk' ? [chunk] : []));
  if (
    !isDeepStrictEqual(
      [...chunks, ...held].sort((a, b) => a.from - b.from),
      named,
    )
  )
    return 'WRONG: other chunks';
  const ends = [said.at(-1), said.at(0)].filter((line, at, both) => line?.kind === 'chunk' && line !== both[at - 1]);
  const late = ends.map((line) => line?.from);
  if (
    !isDeepStrictEqual(
      held.map(({ from }) => from),
      late,
    )
  )
    return 'WRONG: bootable before all is there';
  try {
    const parts = said.map(({ kind, length: rawLength, compressed: length, sha256 }): Part =>
      kind === 'chunk' ? { kind, rawLength, length, sha256 } : { kind: 'zeros', rawLength },
    );
    const ours = formatChunkMap(layOut(rawSha256, parts));
    parseChunkMap(ours);
    return ours === text.toString('latin1') ? 'planned' : 'WRONG: planned, though written otherwise';
  } catch {
    return 'WRONG: pieces that no image has';
  }
}

function refused({ text, raw }: MapInput): string {
  try {
    return parseChunkMap(text.toString('latin1')).rawBytes === raw
      ? 'WRONG: a map is refused'
      : 'refused: of another disk';
  } catch {
    return 'refused';
  }
}

/** What comes of each map; undefined for those that are refused. */
async function plan(directory: string, path: string, maps: readonly MapInput[]): Promise<(Planned | undefined)[]> {
  const batch = mkdtempSync(join(directory, 'batch-'));
  const places = maps.map((_, at) => join(batch, String(at)));
  for (const [at, { text, raw }] of maps.entries()) {
    mkdirSync(places[at]!);
    writeFileSync(join(places[at]!, 'map'), text);
    writeFileSync(join(places[at]!, 'raw'), `${String(raw)}\n`);
  }
  const env = { ...process.env, LC_ALL: 'C', PATH: `${path}:${process.env['PATH'] ?? ''}` };
  await promisify(execFile)('sh', ['-eu', '-c', SCRIPT, 'plan', CHUNKS, batch], { env });
  const plans = places.map((place) => (existsSync(join(place, 'refused')) ? undefined : readPlan(place)));
  rmSync(batch, { recursive: true });
  return plans;
}

// As `deploy` has these functions, with fewer processes.
const SCRIPT = `
  one_line() { printf '%s' "$1"; }
  fail() { : >"$work/refused"; exit 1; }
  random_numbers() { printf '0\\n2\\n'; }
  . "$1"
  for work in "$2"/*; do
    read -r raw <"$work/raw"
    (make_plan) || :
  done`;
const CHUNKS = join(import.meta.dirname, '../../images/ramdisk/chunks.sh');

function readPlan(place: string): Planned {
  const lines = (file: string) => readFileSync(join(place, file), 'latin1').split('\n').filter(Boolean);
  const chunk = (line: string): PlannedChunk => {
    const [from, length, compressed, sha256 = ''] = line.split(' ');
    return { from: Number(from), length: Number(length), compressed: Number(compressed), sha256 };
  };
  return {
    chunks: lines('plan').map(chunk),
    held: lines('held').map(chunk),
    zeros: lines('zeros')
      .map(chunk)
      .map(({ from, length }) => ({ from, length })),
    rawSha256: lines('raw-sha256').join(),
  };
}

/** The ramdisk's. */
function busyboxAwk(directory: string): string {
  const path = join(directory, 'bin');
  mkdirSync(path);
  symlinkSync('/bin/busybox', join(path, 'awk'));
  return path;
}

function tell({ text, raw }: MapInput): string {
  return `${String(raw)} bytes, ${JSON.stringify(text.toString('latin1', 0, 400))}`;
}
