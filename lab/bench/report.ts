import { cpus, release } from 'node:os';

import { run } from '../process/run.ts';

/** One benchmark: a file in this folder that exports it as `bench`, and sets up its own peer. */
export interface Bench {
  readonly name: string;
  /** One line: what is measured, beside whom. */
  readonly about: string;
  /** What the words of its cases mean, for whoever has the report alone. */
  readonly definitions?: readonly string[];
  /** `say` tells people how far it is. Cleans up behind itself, whatever happens. */
  run(say: (line: string) => void): Promise<Row[]>;
}

/** One measured comparison. A higher ratio is always better for us, whatever the unit. */
export interface Row {
  case: string;
  unit: string;
  ours: number;
  peer: number;
  peerName: string;
  ratio: number;
  /** The least ratio that is good enough. */
  aim: number;
  met: boolean;
}

export interface Measured {
  case: string;
  unit: string;
  ours: number;
  peer: number;
  peerName: string;
  aim: number;
}

/** For rates: more is better. */
export function moreIsBetter(measured: Measured): Row {
  return judged(measured, measured.ours / measured.peer);
}

/** For times and sizes: less is better. A limit to keep is a peer named `limit`, with aim 1. */
export function lessIsBetter(measured: Measured): Row {
  return judged(measured, measured.peer / measured.ours);
}

function judged({ case: title, unit, ours, peer, peerName, aim }: Measured, ratio: number): Row {
  const figures = { ours: rounded(ours), peer: rounded(peer), peerName, ratio: rounded(ratio) };
  return { case: title, unit, ...figures, aim, met: ratio >= aim };
}

export interface Report {
  name: string;
  /** ISO 8601. */
  date: string;
  /** Of the measured tree; ends in `+` when files were changed since. */
  commit: string;
  machine: string;
  definitions?: readonly string[];
  rows: Row[];
}

export async function report({ name, definitions }: Pick<Bench, 'name' | 'definitions'>, rows: Row[]): Promise<Report> {
  const model = cpus()[0]?.model.trim() ?? 'unknown processor';
  const machine = `${cpus().length} × ${model}, Linux ${release()}, Node ${process.versions.node}`;
  return {
    name,
    date: new Date().toISOString(),
    commit: await commit(),
    machine,
    ...(definitions && { definitions }),
    rows,
  };
}

async function commit(): Promise<string> {
  const git = (...command: string[]) => run(['git', '-C', import.meta.dirname, ...command]);
  try {
    const [head, changes] = await Promise.all([git('rev-parse', 'HEAD'), git('status', '--porcelain', '-uno')]);
    return head.trim() + (changes === '' ? '' : '+');
  } catch {
    return 'unknown'; // an unpacked archive has no history
  }
}

/** The rows as people read them. */
export function table({ name, commit, machine, definitions = [], rows }: Report): string {
  const head = ['case', 'unit', 'ours', 'peer', 'beside', 'ratio', 'aim', ''];
  const body = rows.map((row) => [
    row.case,
    row.unit,
    String(row.ours),
    String(row.peer),
    row.peerName,
    `${row.ratio} ×`,
    `≥ ${row.aim} ×`,
    row.met ? 'met' : 'MISSED',
  ]);
  const lines = [head, ...body];
  const widths = head.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  const drawn = lines.map((line) =>
    line
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
  const notes = definitions.length > 0 ? [...definitions, ''] : [];
  return [`${name} at ${commit.slice(0, 10)} on ${machine}`, '', ...notes, ...drawn, ''].join('\n');
}

/** The middle of a few runs: one run on a busy machine says little. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const [low = NaN, high = NaN] = [sorted[Math.ceil(middle) - 1], sorted[Math.floor(middle)]];
  return (low + high) / 2;
}

/** Between which values the median is, 95 times in 100, by order statistics; their range where there are too few to say so. */
export function medianInterval(values: readonly number[]): readonly [low: number, high: number] {
  const sorted = [...values].sort((a, b) => a - b);
  const count = sorted.length;
  // How probable it is that so many of them, or fewer, are on one side of the median; the probability of one more each time.
  let probability = 0.5 ** count;
  let outside = 0;
  let cut = 0;
  for (let below = 0; below < count / 2; below += 1) {
    outside += probability;
    if (2 * outside > 0.05) break;
    cut = below;
    probability *= (count - below) / (below + 1);
  }
  return [sorted[cut] ?? NaN, sorted[count - 1 - cut] ?? NaN];
}

/** `share` is 0.99 for the value that 99 % do not exceed. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? NaN;
}

// Three digits that matter: the rest is noise.
function rounded(value: number): number {
  return Number(value.toPrecision(3));
}
