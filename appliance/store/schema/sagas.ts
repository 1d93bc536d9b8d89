import type { Json, Millis } from './column-types.ts';

/** Every write of a saga is fenced by `epoch`; whoever holds a row with an unexpired lease is its owner. */
export interface SagaRow {
  id: string;
  name: string;
  version: number;
  tenant_id: string | null;
  /** What it is about: an attempt or a machine. */
  subject: string;
  params: Json;
  state: 'running' | 'completed' | 'undoing' | 'undone' | 'stuck';
  /** JSON: the error or order that turned it back; null while it goes forward. */
  reason: Json | null;
  owner: string | null;
  epoch: number;
  lease_expires_at: Millis;
  /** When it wants attention next; null once it has ended. */
  wake_at: Millis | null;
  created_at: Millis;
  ended_at: Millis | null;
}

export interface SagaStepRow {
  saga_id: string;
  name: string;
  ordinal: number;
  tenant_id: string | null;
  state: 'started' | 'waiting' | 'done' | 'failed' | 'undoing' | 'undone' | 'stuck' | 'skipped';
  tries: number;
  output: Json | null;
  error: Json | null;
  recheck_at: Millis | null;
  /** JSON: how the way forward went (`StepForward`), once the undo has begun; the other columns tell of that from then on. */
  forward: Json | null;
  started_at: Millis;
  ended_at: Millis | null;
}

/** A saga that sleeps until an event of this type and key comes after `since`. */
export interface SagaWaitRow {
  saga_id: string;
  step: string;
  type: string;
  key: string;
  since: number;
}

/** An effect outside: the intent is written before it happens, so that a crash never leaves an unknown. */
export interface ResourceRow {
  saga_id: string;
  step: string;
  name: string;
  /** The idempotency key under which the provider knows it. */
  key: string;
  tenant_id: string | null;
  state: 'intended' | 'created' | 'deleting' | 'deleted';
  ref: Json | null;
  started_at: Millis;
  ended_at: Millis | null;
}
