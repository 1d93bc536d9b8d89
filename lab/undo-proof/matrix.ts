import { forGood } from './effects.ts';
import { columns, isBySigkill, scenariosOf, some } from './scenarios.ts';
import type { Column, Turned } from './scenarios.ts';
import { Killer } from './sigkill.ts';
import { siteTemplate } from './site.ts';
import type { Template } from './template.ts';
import { tryOnce } from './trial.ts';
import type { SagaCase, Verdict } from './trial.ts';

export interface Cell {
  readonly column: Column;
  readonly run: number;
  readonly passed: number;
}

export interface Row {
  readonly saga: string;
  readonly provider: string;
  readonly cells: readonly Cell[];
  /** What went wrong, by scenario. */
  readonly failures: readonly Verdict[];
  /** What ended a saga whose effect lied, or hung: the effect's scenario, and the code it ended with. */
  readonly caught: readonly { readonly scenario: string; readonly by: string }[];
}

export interface MatrixOptions {
  /** Cases of a cell; Infinity for all there are. */
  readonly most: (column: Column, subject: SagaCase) => number;
  readonly seed: string;
  readonly only?: (column: Column) => boolean;
  /** Hears how each cell went, as soon as it is done. */
  readonly tell?: (line: string) => void;
}

/** A site for each number of machines that a row wants. */
export interface Templates {
  of(subject: SagaCase): Template;
  remove(): void;
}

export async function siteTemplates(): Promise<Templates> {
  const [alone, pair] = [await siteTemplate(1), await siteTemplate(2)];
  return {
    of: ({ machines }) => (machines === undefined ? alone : pair),
    remove() {
      for (const template of [alone, pair]) template.remove();
    },
  };
}

/** As many as `npm test` has time for; a run on two machines takes that of two. */
export const fewOfEach = (column: Column, { machines }: SagaCase): number => (few[column] ?? 10) / (machines ?? 1);
const few: Partial<Record<Column, number>> = { SIGKILL: 12, 'SIGKILL, cancelled': 6, 'SIGKILL twice': 6 };
export const wholeOfEach = (): number => Infinity;

/** One row: the saga under every fault there is, or as many of each kind as are asked for. */
export async function proveCase(subject: SagaCase, template: Template, options: MatrixOptions): Promise<Row> {
  const killer = new Killer(template);
  try {
    return await proveRow(subject, template, killer, options);
  } finally {
    killer.close();
  }
}

/** Whether such a fault can come to this saga at all. */
export function isPossible(column: Column, subject: SagaCase): boolean {
  // The rack of killed processes has one machine.
  if (isBySigkill(column) && subject.machines !== undefined) return false;
  if (column.endsWith('cancelled')) return subject.cancel !== undefined;
  return !column.startsWith('undo fails') || subject.undoesNothing !== true;
}

async function proveRow(
  subject: SagaCase,
  template: Template,
  killer: Killer,
  { most, seed, only, tell }: MatrixOptions,
): Promise<Row> {
  const { saga, provider } = subject;
  const { course } = await tryOnce(subject, template, { name: 'undisturbed' });
  const last = course.effects.findLastIndex(({ backward }) => !backward) + 1;
  const turned = [await turnedBack(last, 'before'), await turnedBack(last, 'after')];
  const scenarios = scenariosOf({ course, turned }, seed);

  const cells: Cell[] = [];
  const failures: Verdict[] = [];
  const caught: { scenario: string; by: string }[] = [];
  for (const column of columns) {
    if (only?.(column) === false) continue;
    if (!isPossible(column, subject)) {
      cells.push({ column, run: 0, passed: 0 });
      continue;
    }
    const verdicts: Verdict[] = [];
    const began = performance.now();
    for (const scenario of some(scenarios[column], most(column, subject), seed)) {
      const verdict =
        scenario.sigkillAt === undefined
          ? (await tryOnce(subject, template, scenario)).verdict
          : await killer.prove(subject, scenario);
      // A second kill may come too late: everything has ended.
      if (verdict.met || verdict.problems.length > 0) verdicts.push(verdict);
    }
    const bad = verdicts.filter(({ problems }) => problems.length > 0);
    const cell = { column, run: verdicts.length, passed: verdicts.length - bad.length };
    cells.push(cell);
    const seconds = ((performance.now() - began) / 1_000).toFixed(0);
    tell?.(`${saga}, ${provider}: ${column}: ${String(cell.passed)} of ${String(cell.run)} passed, ${seconds} s`);
    failures.push(...bad);
    if (column === 'lies' || column === 'hangs')
      caught.push(
        ...verdicts.map(({ scenario, code }) => ({ scenario, by: code ?? 'nothing: it was done in the end' })),
      );
  }
  return { saga, provider, cells, failures, caught };

  async function turnedBack(effect: number, when: Turned['when']): Promise<Turned> {
    const disturbances = [{ effect, mishap: { kind: 'fails', when, error: forGood } }] as const;
    const run = await tryOnce(subject, template, { name: `turned back ${when}`, disturbances });
    return { when, disturbances, course: run.course };
  }
}
