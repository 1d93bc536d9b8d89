import type { Millis } from '../kernel/clock.ts';
import type { Reason, StepForward } from '../saga/step.ts';
import type { SagaStepRow } from '../store/schema.ts';

export const stepStatuses = [
  'pending',
  'running',
  'awaiting-input',
  'completed',
  'failed',
  'rolling-back',
  'rolled-back',
  'stuck',
  'skipped',
] as const;

/** One of a request's four steps, as its caller sees it. */
export interface StepProgress {
  readonly name: string;
  readonly status: (typeof stepStatuses)[number];
  /** How often it was tried on its way forward. */
  readonly attempts: number;
  /** Of its way forward, also when it was rolled back since. */
  readonly startedAt: Millis | null;
  readonly endedAt: Millis | null;
  /** Why it failed, is tried again, or could not be rolled back. */
  readonly reason: Reason | null;
}

/** A row, with what it waits for where that is a person. */
export type StepRow = Pick<SagaStepRow, 'name' | 'tries' | 'error' | 'forward' | 'started_at' | 'ended_at'> & {
  readonly state: SagaStepRow['state'] | 'awaiting-input';
};

/** All four steps, in order; those that have not begun are pending. */
export function stepsInProgress(rows: readonly StepRow[]): StepProgress[] {
  return stepNames.map((name) => {
    const row = rows.find((step) => step.name === name);
    return row === undefined ? { name, ...pending } : progressOf(row);
  });
}

const stepNames = ['allocate', 'configure', 'activate', 'verify'];

const pending = { status: 'pending', attempts: 0, startedAt: null, endedAt: null, reason: null } as const;

const statusOf: Readonly<Record<StepRow['state'], StepProgress['status']>> = {
  started: 'running',
  waiting: 'running',
  'awaiting-input': 'awaiting-input',
  done: 'completed',
  failed: 'failed',
  undoing: 'rolling-back',
  undone: 'rolled-back',
  stuck: 'stuck',
  skipped: 'skipped',
};

function progressOf({ name, state, tries, error, forward, started_at, ended_at }: StepRow): StepProgress {
  const now = error === null ? null : (JSON.parse(error) as Reason);
  const went: StepForward =
    forward === null
      ? { tries, error: now, startedAt: started_at, endedAt: ended_at }
      : (JSON.parse(forward) as StepForward);
  return {
    name,
    status: statusOf[state],
    attempts: went.tries,
    startedAt: went.startedAt,
    endedAt: went.endedAt,
    reason: state === 'stuck' ? now : went.error,
  };
}
