import type { Test } from 'tap';

import type { ManualClock } from '../kernel/manual-clock.ts';
import type { SagaRow, SagaStepRow } from '../store/schema.ts';
import type { Store } from '../store/store.ts';
import { saga } from './saga.ts';
import type { BoundSaga, SagaListener } from './saga.ts';
import { done } from './step.ts';
import type { Step, StepContext, wait } from './step.ts';
import { TestProcess } from './test-process.ts';

/** Small sagas and what tests ask of them. */
export interface Params {
  name: string;
}
export type AnyStep<Out = unknown> = Step<unknown, Out, unknown>;

export const nothing = { noUndo: 'does nothing' };
export const cancelled = { code: 'cancelled', message: 'the caller asked' } as const;

export function begin(
  t: Test,
  store: Store,
  clock: ManualClock,
  sagas: readonly BoundSaga[],
  owner = 'test',
  options: { soleOwner?: boolean; limit?: number } = {},
  onPoint?: (what: string) => void,
): TestProcess {
  const process = new TestProcess({ store, clock, sagas, owner, onPoint, ...options });
  process.run();
  t.teardown(() => process.kill());
  return process;
}

export function twoSteps() {
  const a: AnyStep<string> = { run: async () => done('A'), undo: nothing };
  const b: AnyStep<string> = { run: async () => done('B'), undo: async () => done() };
  return { a, b, definition: saga<Params, unknown>('test', 1).step('a', a).step('b', b).build() };
}

export type Run = Pick<StepContext<unknown>, 'waited' | 'tries'> & { at: number };

/** One step that waits until its `total`-th run. */
export function waitingSaga(
  next: (ctx: StepContext<unknown>) => ReturnType<typeof wait> | Promise<ReturnType<typeof wait>>,
  total: number,
) {
  const runs: Run[] = [];
  const step: AnyStep = {
    run: async (_, ctx) => {
      runs.push({ at: ctx.clock.now(), waited: ctx.waited, tries: ctx.tries });
      return runs.length === total ? done() : next(ctx);
    },
    undo: nothing,
  };
  return { runs, definition: saga<Params, unknown>('waiting', 1).step('wait', step).build() };
}

export function telling(told: string[]): SagaListener {
  return {
    stepStarted: async (tx, _, step) => tx.afterCommit(() => told.push(`${step} started`)),
    stepDone: async (tx, _, { name, output }) =>
      tx.afterCommit(() => told.push(`${name} done ${JSON.stringify(output)}`)),
    turnedBack: async (tx, _, { code }) => tx.afterCommit(() => told.push(`turned back: ${code}`)),
    completed: async (tx) => tx.afterCommit(() => told.push('completed')),
    undone: async (tx, _, { code }) => tx.afterCommit(() => told.push(`undone: ${code}`)),
    stuck: async (tx, _, step, { message }) => tx.afterCommit(() => told.push(`stuck at ${step}: ${message}`)),
  };
}

export function raise(process: TestProcess, key: string): Promise<void> {
  return process.say('alert.raised', key, { subject: key, code: 'test', message: '' });
}

export function row(store: Store, id: string): Promise<SagaRow> {
  return store.read.selectFrom('sagas').selectAll().where('id', '=', id).executeTakeFirstOrThrow();
}

export function steps(store: Store, id: string): Promise<SagaStepRow[]> {
  return store.read.selectFrom('saga_steps').selectAll().where('saga_id', '=', id).orderBy('ordinal').execute();
}
