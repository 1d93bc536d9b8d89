import type { Millis } from '../kernel/clock.ts';
import type { SagaStepRow } from '../store/schema.ts';
import type { Tx } from '../store/store.ts';
import { insertStep } from './saga-log.ts';
import type { SagaProgress } from './saga-progress.ts';
import type { BoundSaga, NamedStep, SagaFacts, SagaInput } from './saga.ts';
import type { StepStart } from './step.ts';

/** A step that is about to be begun. */
export interface Start {
  readonly name: string;
  readonly ordinal: number;
  readonly write: ((tx: Tx, start: StepStart) => Promise<void>) | undefined;
  /** False when nobody could say what was to be written: so its run finds out what was. */
  readonly isWhole: boolean;
}

/** What the steps of one stage need to be begun: said before the transaction, which must not fail for what they say. */
export function startsOf(
  progress: SagaProgress,
  steps: readonly NamedStep<unknown, unknown>[],
  { params, done }: SagaInput<unknown, Readonly<Record<string, unknown>>>,
): Start[] {
  const input = { params, done: done as never };
  return steps.map(({ name, step }) => ({ name, ordinal: progress.ordinal(name), ...writeOf(step, input) }));
}

function writeOf(
  { begin }: NamedStep<unknown, unknown>['step'],
  input: SagaInput<unknown, never>,
): Pick<Start, 'write' | 'isWhole'> {
  try {
    return { write: begin?.(input), isWhole: true };
  } catch {
    // So does its run, for which the saga is turned back and says why.
    return { write: undefined, isWhole: false };
  }
}

/** Writes that they have begun, and tells who listens. */
export async function writeStarts(
  tx: Tx,
  starts: readonly Start[],
  { saga, listener, now }: { saga: SagaFacts; listener: BoundSaga['listener']; now: Millis },
): Promise<SagaStepRow[]> {
  const { id: sagaId, tenantId } = saga;
  const rows: SagaStepRow[] = [];
  for (const { name, ordinal, write } of starts) {
    rows.push(insertStep(tx, { sagaId, name, ordinal, tenantId, now }));
    await listener.stepStarted?.(tx, saga, name);
    await write?.(tx, { sagaId, step: name, tenantId, startedAt: now });
  }
  return rows;
}
