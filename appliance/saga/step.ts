import type { Occurrence } from '../events/event-log.ts';
import type { Clock, Millis } from '../kernel/clock.ts';
import { asRackstartError } from '../kernel/errors.ts';
import type { ErrorCode } from '../kernel/errors.ts';
import type { Log } from '../kernel/log.ts';
import type { Reader, Tx } from '../store/store.ts';

/** What a waiting step is woken by; `since` is the log's position before the step looked (`EventLog.position`). */
export type WaitFor = Occurrence;

/** Done, or wait: until one of `on` happens, and at the latest until `recheckAt`, when the step is run again. */
export type StepResult<Out> =
  | { readonly kind: 'done'; readonly output: Out; readonly record?: Write }
  | { readonly kind: 'wait'; readonly recheckAt: Millis; readonly on?: readonly WaitFor[]; readonly record?: Write };

/** What is written in the transaction that records how a run ended; it may be lost like what was never written. */
export type Write = (tx: Tx) => Promise<void>;

export interface StepContext<Deps> {
  readonly sagaId: string;
  readonly step: string;
  /** What the saga is about: an attempt or a machine. */
  readonly subject: string;
  readonly tenantId: string | undefined;
  /** `<saga id>/<step>`: the same in every run of this step and of its undo. */
  readonly key: string;
  readonly deps: Deps;
  readonly clock: Clock;
  readonly log: Log;
  /** Aborts when the saga is turned back, when its lease is lost, and at the end of the grace of a shutdown. */
  readonly signal: AbortSignal;
  /** 1 at the first try; one more after each failed one. Waits don't count. */
  readonly tries: number;
  /** When this step, or its undo, began; the same in every run. */
  readonly startedAt: Millis;
  /** Whether the run before this one ended in order, in a wait: false at first, after an error and after a crash. */
  readonly waited: boolean;
  /** Whether this is surely the first run: false after a crash, which may have come before it or after. */
  readonly first: boolean;
  readonly read: Reader;
  /** Fails with `saga.fenced`, and writes nothing, when another owner has taken the saga over. */
  transaction<T>(work: (tx: Tx) => Promise<T>): Promise<T>;
}

/** A step that is being started. */
export type StepStart = Pick<StepContext<unknown>, 'sagaId' | 'step' | 'tenantId' | 'startedAt'>;

/** Why there is nothing to undo, for people. */
export interface NoUndo {
  readonly noUndo: string;
}

/**
 * One step of a saga. `In`, `Out` are JSON. A step holds no state of its own: it is run any number of times under one key, by
 * any process, and every run finds out how far things are.
 *
 * An error that is `transient` is tried again; any other ends the saga's way forward at once.
 */
export interface Step<In, Out, Deps> {
  /** What is written as the step starts, in that same transaction. Where this fails, so will `run`, which is heard. */
  readonly begin?: (input: In) => (tx: Tx, start: StepStart) => Promise<void>;
  readonly run: (input: In, ctx: StepContext<Deps>) => Promise<StepResult<Out>>;
  /** What is written as its undo begins, in that same transaction. */
  readonly beginUndo?: (tx: Tx, step: { readonly sagaId: string; readonly step: string }) => void;
  /** Runs for every step that started; `output` is undefined when it was half done. Any error is tried again. */
  readonly undo: NoUndo | ((input: In, output: Out | undefined, ctx: StepContext<Deps>) => Promise<StepResult<void>>);
}

/** Why a saga turned back, as it is kept and told. */
export interface Reason {
  readonly code: ErrorCode;
  readonly message: string;
  /** The step that failed; absent when somebody asked for it. */
  readonly step?: string;
  readonly details?: Readonly<Record<string, unknown>>;
}

/** How a step's way forward went: kept when its undo begins, of which its row tells from then on. */
export interface StepForward {
  readonly tries: number;
  /** Why it failed; null when it did not. */
  readonly error: Reason | null;
  readonly startedAt: Millis;
  /** Null when it was interrupted. */
  readonly endedAt: Millis | null;
}

/** What made a step fail, as it is kept and told. */
export function toReason(error: unknown, step: string): Reason {
  const { code, message, details } = asRackstartError(error);
  return { code, message, step, ...(Object.keys(details).length > 0 && { details }) };
}

/** As it was kept. */
export function reasonIn(json: string | null): Reason | undefined {
  return json === null ? undefined : (JSON.parse(json) as Reason);
}

export function done(): StepResult<void>;
export function done<Out>(output: Out): StepResult<Out>;
export function done<Out>(output?: Out): StepResult<Out | undefined> {
  return { kind: 'done', output };
}

export function wait(recheckAt: Millis, ...on: readonly WaitFor[]): StepResult<never> {
  return { kind: 'wait', recheckAt, on };
}
