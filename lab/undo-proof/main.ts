/**
 * `node lab/undo-proof/main.ts [--whole] [--row PART] [--column PART] [--seed 1] [--at-once 1]`: each saga on each provider under
 * every kind of fault, as `npm test` does it with some cases of each kind; `--whole` runs all there are: among them a real process
 * that is killed by SIGKILL at each write and effect, 200 seeded pairs of such kills, and every pair without a process. That takes
 * an hour on one processor: `--row 'provision manual' --column SIGKILL` is a part of it, `--at-once 2` has two rows at a time, each
 * in a process of its own.
 *
 * `--schedules 1-2000` runs random histories instead, by their seeds; one alone, `--schedules 17`, is told step by step.
 * `--json` is for programs. The exit code is 1 when something was found.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { parseArgs } from 'node:util';

import { cases, choices } from './cases.ts';
import { fewOfEach, proveCase, siteTemplates, wholeOfEach } from './matrix.ts';
import type { Row } from './matrix.ts';
import { caughtText, matrixText } from './matrix-text.ts';
import { runSchedule } from './schedule.ts';
import { siteTemplate } from './site.ts';
import type { SagaCase } from './trial.ts';

process.exitCode = await main(process.argv.slice(2));

async function main(args: string[]): Promise<number> {
  const { values } = parseArgs({
    args,
    options: {
      whole: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      row: { type: 'string', default: '' },
      column: { type: 'string', default: '' },
      seed: { type: 'string', default: '1' },
      'at-once': { type: 'string', default: '1' },
      schedules: { type: 'string' },
    },
  });
  return values.schedules === undefined ? matrix(values) : schedules(values.schedules, values);
}

interface MatrixArguments {
  readonly whole: boolean;
  readonly json: boolean;
  readonly row: string;
  readonly column: string;
  readonly seed: string;
  readonly 'at-once': string;
}

async function matrix(values: MatrixArguments): Promise<number> {
  const { json, row } = values;
  const wanted = cases.filter((subject) => nameOf(subject).includes(row));
  const atOnce = Number(values['at-once']);
  const rows = atOnce > 1 ? await sideBySide(wanted, atOnce, values) : await oneByOne(wanted, values);
  if (json) console.log(JSON.stringify(rows));
  else console.log(`${matrixText(rows)}\n\nWhat was caught, and how it ended:\n${caughtText(rows)}`);
  const failures = rows.flatMap(({ saga, provider, failures }) => failures.map((one) => ({ saga, provider, ...one })));
  for (const { saga, provider, scenario, problems } of failures) {
    console.error(`FAILED ${saga}, ${provider}: ${scenario}\n  ${problems.join('\n  ')}`);
  }
  return failures.length === 0 ? 0 : 1;
}

function nameOf({ saga, provider }: SagaCase): string {
  return `${saga} ${provider}`;
}

async function oneByOne(wanted: readonly SagaCase[], { whole, column, seed }: MatrixArguments): Promise<Row[]> {
  const templates = await siteTemplates();
  const rows: Row[] = [];
  try {
    for (const subject of wanted) {
      const options = { most: whole ? wholeOfEach : fewOfEach, seed, only: (one: string) => one.includes(column) };
      rows.push(await proveCase(subject, templates.of(subject), { ...options, tell: (line) => console.error(line) }));
    }
  } finally {
    templates.remove();
  }
  return rows;
}

/** Each row by this same program, so many at a time. */
async function sideBySide(
  wanted: readonly SagaCase[],
  atOnce: number,
  { whole, column, seed }: MatrixArguments,
): Promise<Row[]> {
  const left = [...wanted];
  const rows = new Map<SagaCase, readonly Row[]>();
  const oneAfterAnother = async () => {
    for (let subject = left.shift(); subject !== undefined; subject = left.shift()) {
      const which = [...(whole ? ['--whole'] : []), '--row', nameOf(subject), '--column', column, '--seed', seed];
      const child = spawn(process.execPath, [import.meta.filename, ...which, '--json'], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const [told] = await Promise.all([text(child.stdout), once(child, 'exit')]);
      rows.set(subject, JSON.parse(told) as Row[]);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, oneAfterAnother));
  return wanted.flatMap((subject) => rows.get(subject) ?? []);
}

async function schedules(range: string, { json }: { json: boolean }): Promise<number> {
  const [first = 1, last = first] = range.split('-').map(Number);
  const template = await siteTemplate(2);
  const ends: Record<string, number> = {};
  const failed: string[] = [];
  const began = performance.now();
  try {
    for (let seed = first; seed <= last; seed += 1) {
      const verdict = await runSchedule(template, choices, String(seed));
      for (const [end, count] of Object.entries(verdict.ends)) ends[end] = (ends[end] ?? 0) + count;
      if (first === last) console.error(verdict.told.join('\n'));
      if (verdict.problems.length === 0) continue;
      failed.push(String(seed));
      console.error(`FAILED schedule ${String(seed)}: ${verdict.problems.join('\n  ')}`);
      console.error(`  repeat it: node lab/undo-proof/main.ts --schedules ${String(seed)}`);
    }
  } finally {
    template.remove();
  }
  const run = last - first + 1;
  const seconds = (performance.now() - began) / 1_000;
  if (json) console.log(JSON.stringify({ run, failed, ends }));
  else console.log(`${String(run)} schedules, ${String(failed.length)} failed, ${(run / seconds).toFixed(1)}/s`, ends);
  return failed.length === 0 ? 0 : 1;
}
