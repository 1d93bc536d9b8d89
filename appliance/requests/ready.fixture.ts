import type { Pipeline } from './pipeline.fixture.ts';

/** As an operator asks for it. */
export function warm({ store, daemon, machineIds }: Pipeline, index = 0): Promise<void> {
  return store.transaction((tx) => daemon.pool.warmMachine(tx, machineIds[index] ?? ''));
}

export function drain({ store, daemon, machineIds }: Pipeline, index = 0): Promise<void> {
  return store.transaction((tx) => daemon.pool.drainMachine(tx, machineIds[index] ?? ''));
}

/** Has a machine wait for its order. */
export async function parked(pipeline: Pipeline, index = 0): Promise<void> {
  await warm(pipeline, index);
  await pipeline.untilMachine('ready', index);
}
