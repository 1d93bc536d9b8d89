import type { EventLog } from '../events/event-log.ts';
import type { Millis } from '../kernel/clock.ts';
import type { Tx } from '../store/store.ts';
import type { NextTry } from './retry.ts';
import { replaceWaits, setStep, waitsOf } from './saga-log.ts';
import type { StepChange } from './saga-log.ts';
import type { SagaProgress } from './saga-progress.ts';
import { toReason } from './step.ts';
import type { WaitFor, Write } from './step.ts';

/** What one run of a step, or of its undo, came to. */
export type Outcome =
  | { kind: 'done'; name: string; output: unknown; record?: Write }
  | { kind: 'wait'; name: string; recheckAt: Millis; on: readonly WaitFor[]; record?: Write }
  | { kind: 'retry'; name: string; next: NextTry; error: unknown }
  | { kind: 'failed'; name: string; error: unknown }
  | { kind: 'interrupted'; name: string };

/** What a step that is done leaves behind, and its output as it will be read again. */
export function doneRow({ output }: Outcome & { kind: 'done' }, now: Millis): { change: StepChange; output: unknown } {
  const json = (JSON.stringify(output) as string | undefined) ?? null;
  const change = { state: 'done', output: json, error: null, recheck_at: null, ended_at: now } as const;
  return { change, output: json === null ? undefined : (JSON.parse(json) as unknown) };
}

export function failedRow({ error, name }: Outcome & { kind: 'failed' }, now: Millis): StepChange {
  return { state: 'failed', error: JSON.stringify(toReason(error, name)), recheck_at: null, ended_at: now };
}

/** What a step that begins to be undone leaves behind: its row tells of the undo from then on. */
export function undoingRow(forward: string | null, now: Millis): StepChange {
  return { state: 'undoing', tries: 1, error: null, recheck_at: null, started_at: now, forward };
}

export function undoneRow(now: Millis): StepChange {
  return { state: 'undone', error: null, recheck_at: null, ended_at: now };
}

export async function writeDone(
  tx: Tx,
  sagaId: string,
  { name, record }: Outcome & { kind: 'done' },
  { progress, change }: { progress: SagaProgress; change: StepChange },
): Promise<void> {
  await record?.(tx);
  setStep(tx, sagaId, name, change);
  if (progress.hasWaits(name)) await replaceWaits(tx, sagaId, name, []);
}

/** What the runs that are to be followed by another one have made so far: true whatever becomes of the saga. */
export async function writeRecords(tx: Tx, outcomes: readonly Outcome[]): Promise<void> {
  for (const outcome of outcomes) if (outcome.kind === 'wait') await outcome.record?.(tx);
}

/** What the steps that are to be run again wait for; whether any waits for an event. */
export async function writeWaits(
  tx: Tx,
  sagaId: string,
  outcomes: readonly Outcome[],
  { progress, state }: { progress: SagaProgress; state: 'undoing' | 'waiting' },
): Promise<boolean> {
  let any = progress.hasWaits();
  for (const outcome of outcomes) {
    if (outcome.kind !== 'wait' && outcome.kind !== 'retry') continue;
    const { name } = outcome;
    const waits = outcome.kind === 'wait' ? progress.freshWaits(name, outcome.on) : [];
    const change = { state, ...againAt(outcome) };
    setStep(tx, sagaId, name, change);
    progress.changed(name, change);
    if (waits.length > 0 || progress.hasWaits(name)) await replaceWaits(tx, sagaId, name, waits);
    any ||= waits.length > 0;
  }
  return any;
}

function againAt(outcome: Outcome & { kind: 'wait' | 'retry' }): StepChange {
  if (outcome.kind === 'wait') return { recheck_at: outcome.recheckAt, error: null };
  const { at, tries } = outcome.next;
  return { tries, recheck_at: at, error: JSON.stringify(toReason(outcome.error, outcome.name)) };
}

/** Asked in the same transaction in which the waits are written: whatever comes later finds them. */
export async function isWaitOver(tx: Tx, events: EventLog, sagaId: string): Promise<boolean> {
  const waits = await waitsOf(tx, sagaId);
  if (waits.length === 0) return false;
  const on = waits.map(({ type, key, since }) => ({ type: type as WaitFor['type'], key, since }));
  return (await events.happened(tx, on)).length > 0;
}

/** The results of all; the first error, when all have settled: none of them goes on unseen. */
export async function allSettled<T>(work: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(work);
  return Promise.all(work);
}
