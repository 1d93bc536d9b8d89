import type { Row } from './matrix.ts';

/** The matrix as people read it: rows are sagas on providers, columns kinds of faults, cells how many cases passed of how many. */
export function matrixText(rows: readonly Row[]): string {
  const columns = [...new Set(rows.flatMap(({ cells }) => cells.map(({ column }) => column)))];
  const words = columns.map((column) => column.split(' '));
  const height = Math.max(...words.map(({ length }) => length), 1);
  const headings = Array.from({ length: height }, (_, line) => [
    line === height - 1 ? 'saga' : '',
    line === height - 1 ? 'provider' : '',
    ...words.map((parts) => parts[line - height + parts.length] ?? ''),
  ]);
  const body = rows.map(({ saga, provider, cells }) => [
    saga,
    provider,
    ...columns.map((column) => {
      const { run, passed } = cells.find((cell) => cell.column === column) ?? { run: 0, passed: 0 };
      return run === 0 ? '-' : passed === run ? String(run) : `${String(passed)}/${String(run)}`;
    }),
  ]);
  const { run, passed } = totals(rows);
  return [
    'Undo proof: cases that passed (of those that were run, where it is not all of them).',
    ...aligned([...headings, ...body]),
    `${String(passed)} of ${String(run)} cases passed: each came to an end, and nothing was left.`,
  ].join('\n');
}

/** What of a row's faults that nobody tells of was caught, and by which error it was. */
export function caughtText(rows: readonly Row[]): string {
  const lines = rows.flatMap(({ saga, provider, caught }) =>
    caught.map(({ scenario, by }) => `${saga}, ${provider}: ${scenario.replace(/ at effect \d+,/, ' at')}: ${by}`),
  );
  return [...new Set(lines)].join('\n');
}

export function totals(rows: readonly Row[]): { run: number; passed: number } {
  const cells = rows.flatMap((row) => row.cells);
  const sum = (of: 'run' | 'passed') => cells.reduce((all, cell) => all + cell[of], 0);
  return { run: sum('run'), passed: sum('passed') };
}

function aligned(lines: readonly (readonly string[])[]): string[] {
  const widths = lines[0]?.map((_, at) => Math.max(...lines.map((line) => line[at]?.length ?? 0))) ?? [];
  return lines.map((line) =>
    line
      .map((text, at) => (at < 2 ? text.padEnd(widths[at] ?? 0) : text.padStart(widths[at] ?? 0)))
      .join('  ')
      .trimEnd(),
  );
}
