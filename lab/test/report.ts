import type { Outcome } from './outcome.ts';

export interface Finished {
  title: string;
  outcome: Outcome;
  ms: number;
}

/** One line on one finished part: `ok    pxe/tftp/packet.test.ts   12 passed   0.4 s`. */
export function line({ title, outcome: { passed, failures, skipped }, ms }: Finished): string {
  const verdict = failures.length > 0 ? 'FAIL' : passed > 0 ? 'ok  ' : 'skip';
  return `${verdict}  ${title.padEnd(48)} ${counts(passed, failures.length, skipped.length)}  ${seconds(ms)}`;
}

/**
 * The end of a report: what parts have to show, every skipped test with its reason, every failure with all that is known, the time, and as the
 * very last line `N passed, N failed` (`, N skipped` when there are any).
 */
export function summary(all: readonly Finished[], ms: number): string {
  const skips = all.flatMap(({ title, outcome }) =>
    outcome.skipped.map((skip) => `  ${at(title, skip.title)}: ${skip.reason}`),
  );
  const failures = all.filter(({ outcome }) => outcome.failures.length > 0).map(failed);
  const passed = sum(all, ({ outcome }) => outcome.passed);
  const last = counts(
    passed,
    sum(all, ({ outcome }) => outcome.failures.length),
    skips.length,
  );
  const skipped = skips.length > 0 ? [['Skipped:', ...skips].join('\n')] : [];
  const reports = all.flatMap(({ outcome }) => outcome.report ?? []);
  return [...reports, ...skipped, ...failures, `Took ${seconds(ms)}`, last].join('\n\n');
}

/** Whether a run proves something: tests there were, and none failed. */
export function isGood(all: readonly Finished[]): boolean {
  return all.every(({ outcome }) => outcome.failures.length === 0) && all.some(({ outcome }) => outcome.passed > 0);
}

function failed({ title, outcome }: Finished): string {
  const parts = outcome.failures.map((failure) => `FAILED ${at(title, failure.title)}\n${indent(failure.diagnostics)}`);
  const output = outcome.output ?? '';
  return [...parts, ...(output === '' ? [] : [`It also wrote:\n${indent(output)}`])].join('\n');
}

function at(job: string, test: string): string {
  return job === test ? job : `${job}: ${test}`;
}

function counts(passed: number, failures: number, skipped: number): string {
  return `${passed} passed, ${failures} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`;
}

function sum(all: readonly Finished[], value: (each: Finished) => number): number {
  return all.reduce((total, each) => total + value(each), 0);
}

function indent(text: string): string {
  return text.replace(/^(?=.)/gm, '  ');
}
