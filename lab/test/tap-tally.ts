import type { Readable } from 'node:stream';
import { inspect } from 'node:util';
import { Parser } from 'tap-parser';
import type { Plan, Result } from 'tap-parser';

import type { Failure, Outcome, Skip } from './outcome.ts';

export interface TapTally extends Outcome {
  /** Whether the stream held a plan (`1..N`): without one nobody knows whether the program came to its end. */
  planned: boolean;
}

/**
 * Counts tests in a TAP stream: those that hold no further tests, whatever the number of their assertions. A test whose
 * every assertion is skipped (or still to do) counts as skipped, not as passed.
 */
export async function tallyTap(stream: Readable): Promise<TapTally> {
  const parser = new Parser();
  const root = follow(parser);
  let planned = false;
  let skippedAll = '';
  parser.on('plan', ({ start, end, comment }: Plan) => {
    if (comment === 'no tests found') return; // the parser's own plan for a stream without one
    planned = true;
    if (end < start) skippedAll = comment || 'no tests';
  });
  const ended = new Promise((resolve) => parser.on('complete', resolve));
  stream.on('data', (chunk: string | Buffer) => parser.write(chunk));
  stream.on('close', () => parser.end()); // also comes without 'end', when the stream is destroyed
  await ended;

  const tally = { passed: 0, failures: [] as Failure[], skipped: [] as Skip[] };
  if (skippedAll !== '') tally.skipped.push({ title: 'all of it', reason: skippedAll.replace(/^skip\s*/i, '') });
  for (const point of root) count(point, [], tally);
  return { ...tally, planned };
}

/** A line `ok` or `not ok`, and what ran inside it when it stands for a whole test. */
interface Point {
  result: Result;
  inside: Point[] | undefined;
}

function follow(parser: Parser): Point[] {
  const points: Point[] = [];
  let inside: Point[] | undefined;
  parser.on('child', (child: Parser) => {
    inside = follow(child);
  });
  parser.on('assert', (result: Result) => {
    points.push({ result, inside });
    inside = undefined;
  });
  return points;
}

type Tally = { passed: number; failures: Failure[]; skipped: Skip[] };

function count({ result, inside = [] }: Point, around: readonly string[], tally: Tally): void {
  const path = [...around, result.name];
  const title = path.join(' > ');
  if (result.skip !== false || result.todo !== false) {
    tally.skipped.push({ title, reason: reasonOf(result) });
    return;
  }
  const failuresBefore = tally.failures.length;
  const isGroup = inside.some((point) => point.inside !== undefined);
  const skips = inside.filter((point) => point.result.skip !== false || point.result.todo !== false);
  for (const point of inside) {
    if (point.inside !== undefined) count(point, path, tally);
  }
  for (const skip of skips) tally.skipped.push({ title, reason: skip.result.name || reasonOf(skip.result) });
  for (const point of inside) {
    if (point.inside === undefined && !point.result.ok && !skips.includes(point)) {
      tally.failures.push({ title, diagnostics: describe(point.result) });
    }
  }
  // A leaf has one verdict however many of its assertions failed.
  if (!isGroup && tally.failures.length > failuresBefore + 1) merge(tally.failures, failuresBefore);
  if (!result.ok && tally.failures.length === failuresBefore) {
    tally.failures.push({ title, diagnostics: describe(result) });
  }
  if (result.ok && !isGroup && (inside.length === 0 || skips.length < inside.length)) tally.passed += 1;
}

function merge(failures: Failure[], from: number): void {
  const [first, ...others] = failures.splice(from);
  const diagnostics = [first!, ...others].map((failure) => failure.diagnostics).join('\n');
  failures.push({ title: first!.title, diagnostics });
}

function reasonOf({ skip, todo }: Result): string {
  if (typeof skip === 'string') return skip;
  if (typeof todo === 'string') return `to do: ${todo}`;
  return skip ? 'no reason given' : 'to do';
}

function describe({ name, diag }: Result): string {
  const facts = Object.entries((diag ?? {}) as Record<string, unknown>).map(([key, value]) => {
    const text = typeof value === 'string' ? value.trimEnd() : inspect(value, { depth: 6, breakLength: 100 });
    return text.includes('\n') ? `${key}:\n${indent(text)}` : `${key}: ${text}`;
  });
  return [name, ...facts.map(indent)].join('\n');
}

function indent(text: string): string {
  return text.replace(/^/gm, '  ');
}
