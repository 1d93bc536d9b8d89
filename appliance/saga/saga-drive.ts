import type { EventLog } from '../events/event-log.ts';
import type { Clock, Millis } from '../kernel/clock.ts';
import { asRackstartError, hasCode, RackstartError } from '../kernel/errors.ts';
import type { Log } from '../kernel/log.ts';
import type { SagaRow, SagaStepRow } from '../store/schema.ts';
import type { Store, Tx } from '../store/store.ts';
import { isTransient, nextTry } from './retry.ts';
import type { RetryPolicy } from './retry.ts';
import * as sagaLog from './saga-log.ts';
import type { Lease } from './saga-log.ts';
import { SagaProgress } from './saga-progress.ts';
import type { BoundSaga, NamedStep, SagaFacts } from './saga.ts';
import { reasonIn, toReason } from './step.ts';
import type { Reason, StepContext, StepResult } from './step.ts';
import { withinDeadline } from './step-deadline.ts';
import {
  allSettled,
  doneRow,
  failedRow,
  isWaitOver,
  undoingRow,
  undoneRow,
  writeDone,
  writeRecords,
  writeWaits,
} from './step-outcome.ts';
import type { Outcome } from './step-outcome.ts';
import { startsOf, writeStarts } from './step-start.ts';
import type { Start } from './step-start.ts';

export interface DriveDeps {
  store: Store;
  events: EventLog;
  clock: Clock;
  log: Log;
  retry: RetryPolicy;
  /** How long a lease holds without being renewed. */
  lease: Millis;
}

/**
 * One owner's work on one saga, from the claim of its row until the row is given back: forward through the steps that are not
 * done, or backward through those that started, as far as it goes without waiting.
 */
export class SagaDrive {
  readonly lease: Lease;
  leaseUntil: Millis;
  readonly #row: SagaRow;
  readonly #bound: BoundSaga;
  readonly #deps: DriveDeps;
  readonly #facts: SagaFacts;
  readonly #log: Log;
  #abort = new AbortController();
  #reason: Reason | undefined;
  #backward: boolean;
  #stopping = false;
  #isCompleted = false;
  /** The steps that it has begun itself, and so knows to have been run by nobody. */
  readonly #begun = new Set<string>();
  #lost = false;
  #cutOff = false;

  constructor(row: SagaRow, bound: BoundSaga, deps: DriveDeps) {
    this.#row = row;
    this.#bound = bound;
    this.#deps = deps;
    this.#reason = reasonIn(row.reason);
    this.#backward = row.state === 'undoing';
    this.lease = { sagaId: row.id, owner: row.owner ?? '', epoch: row.epoch };
    this.leaseUntil = row.lease_expires_at;
    const params = JSON.parse(row.params) as unknown;
    this.#facts = { id: row.id, name: row.name, subject: row.subject, tenantId: row.tenant_id ?? undefined, params };
    this.#log = deps.log.child({ saga: row.id, name: row.name, subject: row.subject });
  }

  /** Whether it ended because the store was away: the row is leased still, and nobody works on it. */
  get cutOff(): boolean {
    return this.#cutOff;
  }

  /** Whether another owner has the row, or may have. */
  get isLost(): boolean {
    return this.#lost;
  }

  /** Resolves when the row is given back, or was lost. Never rejects. */
  async run(): Promise<void> {
    try {
      const { store, events } = this.#deps;
      const progress = await SagaProgress.read(store.read, events, this.#bound.definition, this.lease);
      if (this.#backward || (await this.#forward(progress)) === 'turned back') await this.#undo(progress);
    } catch (error) {
      if (this.#lost) {
        this.#log.warn({ ...this.lease }, 'the lease was lost: the saga is left to its next owner');
        return;
      }
      const { code, message } = asRackstartError(error);
      this.#cutOff = code === 'store.unavailable';
      // Nothing is known of what was written: whoever claims the row when its lease has run out, or is given back, reads that.
      this.#log.error({ err: error, code, reason: message }, 'the saga rests');
    }
  }

  /** The saga shall be undone: what runs is told so, and the turn comes when it has settled. */
  turnBack(reason: Reason): void {
    this.#reason ??= reason;
    if (!this.#backward) this.#abort.abort(new RackstartError('cancelled', reason.message));
  }

  /** Reads whether somebody has turned the saga back. */
  async look(): Promise<void> {
    const reason = reasonIn(await sagaLog.reasonOf(this.#deps.store.read, this.lease.sagaId));
    if (reason !== undefined) this.turnBack(reason);
  }

  /** From now on nothing more is written. */
  lose(): void {
    this.#lost = true;
    this.#abort.abort(new RackstartError('saga.fenced', `the lease of saga ${this.lease.sagaId} is lost`));
  }

  /** No further step is begun; with `now`, the running ones are told to stop too, which is no failure of theirs. */
  stop({ now }: { now: boolean }): void {
    this.#stopping = true;
    if (now) this.#abort.abort(new RackstartError('store.unavailable', 'the daemon ends'));
  }

  async #forward(progress: SagaProgress): Promise<'given back' | 'turned back'> {
    const isDone = ({ name }: { name: string }) => progress.step(name)?.state === 'done';
    for (const stage of this.#bound.definition.stages) {
      if (stage.every(isDone)) continue;
      if (this.#isTurning()) break;
      const due = stage.filter((step) => !isDone(step) && progress.isDue(step.name, this.#deps.clock.now()));
      const outcomes = await allSettled(due.map((step) => this.#runStep(progress, step)));
      if (this.#isCompleted) return 'given back';
      if (this.#isTurning() || outcomes.some(({ kind }) => kind === 'failed')) return this.#turn(progress, outcomes);
      if (stage.every(isDone)) continue;
      return (await this.#park(progress, outcomes)) ? 'given back' : this.#turn(progress, outcomes);
    }
    if (this.#isTurning() || !(await this.#complete(progress))) return this.#turn(progress, []);
    return 'given back';
  }

  // A completed saga is only ever claimed to be turned back.
  #isTurning(): boolean {
    return this.#reason !== undefined;
  }

  async #runStep(progress: SagaProgress, named: NamedStep<unknown, unknown>): Promise<Outcome> {
    const { name, step } = named;
    if (this.#stopping) return { kind: 'interrupted', name };
    const done = progress.outputsBefore(name);
    if (progress.step(name) === undefined) {
      const starts = startsOf(progress, [named], { params: this.#facts.params, done });
      this.#started(progress, starts, await this.#write((tx) => this.#start(tx, starts)));
    }
    const input = { params: this.#facts.params, done: done as never };
    const outcome = await this.#settle(progress, name, (ctx) => step.run(input, ctx), isTransient);
    // Its neighbours' work is of no use any more.
    if (outcome.kind === 'failed') this.#abort.abort(new RackstartError('cancelled', `step ${name} failed`));
    if (outcome.kind === 'done') await this.#finishStep(progress, outcome);
    return outcome;
  }

  /** Records that a step is done, and in the same transaction begins what follows, or completes the saga. */
  async #finishStep(progress: SagaProgress, outcome: Outcome & { kind: 'done' }): Promise<void> {
    const { name } = outcome;
    const now = this.#deps.clock.now();
    const startedAt = progress.step(name)?.started_at ?? now;
    const next = this.#stopping ? undefined : progress.stageAfter(name);
    const { change, output } = doneRow(outcome, now);
    const done = { ...progress.outputsBefore(next?.[0]?.name ?? name), [name]: output };
    const starts = startsOf(progress, next ?? [], { params: this.#facts.params, done });
    const { rows, completed } = await this.#write(async (tx, reason) => {
      await writeDone(tx, this.lease.sagaId, outcome, { progress, change });
      await this.#bound.listener.stepDone?.(tx, this.#facts, { name, output, startedAt });
      const goesOn = reason === undefined && next !== undefined;
      if (goesOn && next.length === 0) await this.#writeCompleted(tx, { ...progress.outputs(), [name]: output });
      return { rows: goesOn ? await this.#start(tx, starts) : [], completed: goesOn && next.length === 0 };
    });
    progress.changed(name, change);
    this.#log.info({ step: name }, 'step done');
    this.#started(progress, starts, rows);
    if (completed) this.#completed();
  }

  #start(tx: Tx, starts: readonly Start[]): Promise<SagaStepRow[]> {
    return writeStarts(tx, starts, { saga: this.#facts, listener: this.#bound.listener, now: this.#deps.clock.now() });
  }

  #started(progress: SagaProgress, starts: readonly Start[], rows: readonly SagaStepRow[]): void {
    for (const row of rows) {
      progress.started(row);
      if (starts.some(({ name, isWhole }) => name === row.name && isWhole)) this.#begun.add(row.name);
      this.#log.info({ step: row.name }, 'step started');
    }
  }

  /** False when somebody has turned the saga back meanwhile: nothing is written. */
  async #complete(progress: SagaProgress): Promise<boolean> {
    const completed = await this.#write(async (tx, reason) => {
      if (reason !== undefined) return false;
      await this.#writeCompleted(tx, progress.outputs());
      return true;
    });
    if (completed) this.#completed();
    return completed;
  }

  async #writeCompleted(tx: Tx, outputs: Readonly<Record<string, unknown>>): Promise<void> {
    sagaLog.release(tx, this.lease, null, { state: 'completed', ended_at: this.#deps.clock.now() });
    await this.#bound.listener.completed?.(tx, this.#facts, outputs);
  }

  #completed(): void {
    this.#isCompleted = true;
    this.#log.info({}, 'saga completed');
  }

  async #turn(progress: SagaProgress, outcomes: readonly Outcome[]): Promise<'turned back'> {
    const { sagaId } = this.lease;
    const failed = outcomes.find((outcome) => outcome.kind === 'failed');
    const reason = await this.#write(async (tx, noted) => {
      await writeRecords(tx, outcomes);
      // What somebody asked for first stays the reason, whatever failed because of it.
      const why = noted ?? (failed === undefined ? this.#reason : toReason(failed.error, failed.name));
      if (why === undefined) throw new RackstartError('internal', `saga ${sagaId} turns back for no reason`);
      if (failed !== undefined) {
        const end = failedRow(failed, this.#deps.clock.now());
        sagaLog.setStep(tx, sagaId, failed.name, end);
        progress.changed(failed.name, end);
      }
      await sagaLog.setSaga(tx, sagaId, { state: 'undoing', reason: JSON.stringify(why), ended_at: null });
      await sagaLog.deleteWaits(tx, sagaId);
      await this.#bound.listener.turnedBack?.(tx, this.#facts, why);
      return why;
    });
    this.#reason = reason;
    this.#backward = true;
    this.#log.warn({ code: reason.code, step: reason.step, reason: reason.message }, 'saga turned back');
    return 'turned back';
  }

  async #undo(progress: SagaProgress): Promise<void> {
    // The signal that told the forward steps to stop is not meant for the undo.
    if (!this.#lost && !this.#stopping) this.#abort = new AbortController();
    const state = ({ name }: { name: string }) => progress.step(name)?.state;
    const isOver = (step: { name: string }) => [undefined, 'undone', 'skipped'].includes(state(step));
    for (const stage of this.#bound.definition.stages.toReversed()) {
      const now = this.#deps.clock.now();
      // Only a wait of the undo itself holds a step up, not one from its way forward.
      const isDue = (step: { name: string }) => state(step) !== 'undoing' || progress.isDue(step.name, now);
      const due = stage.filter((step) => !isOver(step) && isDue(step));
      const outcomes = await allSettled(due.map((step) => this.#undoStep(progress, step)));
      const failed = outcomes.find((outcome) => outcome.kind === 'failed');
      if (failed !== undefined) {
        await this.#stick(progress, failed, outcomes);
        return;
      }
      if (!stage.every(isOver)) {
        await this.#park(progress, outcomes);
        return;
      }
    }
    await this.#write(async (tx, reason) => {
      sagaLog.release(tx, this.lease, null, { state: 'undone', ended_at: this.#deps.clock.now() });
      if (reason !== undefined) await this.#bound.listener.undone?.(tx, this.#facts, reason);
    });
    this.#log.info({}, 'saga undone');
  }

  async #undoStep(progress: SagaProgress, { name, step }: NamedStep<unknown, unknown>): Promise<Outcome> {
    if (this.#stopping) return { kind: 'interrupted', name };
    const { sagaId } = this.lease;
    const { clock } = this.#deps;
    if (progress.step(name)?.state !== 'undoing') {
      const change = undoingRow(progress.forward(name), clock.now());
      await this.#write(async (tx) => {
        sagaLog.setStep(tx, sagaId, name, change);
        step.beginUndo?.(tx, { sagaId, step: name });
      });
      progress.changed(name, change);
    }
    const input = { params: this.#facts.params, done: progress.outputsBefore(name) as never };
    const output = progress.output(name);
    const { undo } = step;
    const run = (ctx: StepContext<unknown>): Promise<StepResult<unknown>> =>
      typeof undo === 'function' ? undo(input, output, ctx) : Promise.resolve({ kind: 'done', output: undefined });
    const outcome = await this.#settle(progress, name, run, () => true);
    if (outcome.kind !== 'done') return outcome;
    const change = undoneRow(clock.now());
    await this.#write((tx) => writeDone(tx, sagaId, outcome, { progress, change }));
    progress.changed(name, change);
    this.#log.info({ step: name }, 'step undone');
    return outcome;
  }

  async #stick(
    progress: SagaProgress,
    failed: Outcome & { kind: 'failed' },
    outcomes: readonly Outcome[],
  ): Promise<void> {
    const { sagaId } = this.lease;
    const reason = toReason(failed.error, failed.name);
    await this.#write(async (tx) => {
      await writeRecords(tx, outcomes);
      await writeWaits(tx, sagaId, outcomes, { progress, state: 'undoing' });
      sagaLog.setStep(tx, sagaId, failed.name, { state: 'stuck', error: JSON.stringify(reason), recheck_at: null });
      sagaLog.release(tx, this.lease, null, { state: 'stuck' });
      const { name: saga, subject, tenantId } = this.#facts;
      const { code, message } = reason;
      const data = { sagaId, saga, subject, step: failed.name, code, message };
      await this.#deps.events.append(tx, 'saga.stuck', { key: subject, tenantId, actor: 'saga', data });
      await this.#bound.listener.stuck?.(tx, this.#facts, failed.name, reason);
    });
    this.#log.error({ step: failed.name, code: reason.code, reason: reason.message }, 'saga stuck');
  }

  /** Runs one step or undo and says how it ended. */
  async #settle(
    progress: SagaProgress,
    name: string,
    run: (ctx: StepContext<unknown>) => Promise<StepResult<unknown>>,
    mayRetry: (error: unknown) => boolean,
  ): Promise<Outcome> {
    const { clock, retry } = this.#deps;
    const ctx = this.#context(progress, name);
    if (ctx.signal.aborted) return { kind: 'interrupted', name };
    try {
      const result = await withinDeadline(ctx, run);
      return result.kind === 'done' ? { ...result, name } : { ...result, name, on: result.on ?? [] };
    } catch (error) {
      if (this.#lost || hasCode(error, 'saga.fenced')) throw error;
      if (this.#abort.signal.aborted) return { kind: 'interrupted', name };
      const { tries } = ctx;
      const next = nextTry(error, { tries, now: clock.now(), retry, mayRetry });
      const { code, message } = asRackstartError(error);
      this.#log.warn({ step: name, tries, retryAt: next?.at, code, reason: message, err: error }, 'step failed');
      return next === undefined ? { kind: 'failed', name, error } : { kind: 'retry', name, next, error };
    }
  }

  #context(progress: SagaProgress, name: string): StepContext<unknown> {
    const { store, clock } = this.#deps;
    const row = progress.step(name);
    return {
      sagaId: this.lease.sagaId,
      step: name,
      subject: this.#facts.subject,
      tenantId: this.#facts.tenantId,
      key: `${this.lease.sagaId}/${name}`,
      deps: this.#bound.deps,
      clock,
      log: this.#log.child({ step: name }),
      signal: this.#abort.signal,
      tries: row?.tries ?? 1,
      startedAt: row?.started_at ?? clock.now(),
      waited: row !== undefined && row.recheck_at !== null && row.error === null,
      first: this.#begun.delete(name),
      read: store.read,
      transaction: (work) => this.#write(work),
    };
  }

  /** Gives the row back until something is due. False when somebody has turned the saga back meanwhile: nothing is written. */
  async #park(progress: SagaProgress, outcomes: readonly Outcome[]): Promise<boolean> {
    const { sagaId } = this.lease;
    return this.#write(async (tx, reason) => {
      if (reason !== undefined && !this.#backward) return false;
      await writeRecords(tx, outcomes);
      const state = this.#backward ? 'undoing' : 'waiting';
      const waits = await writeWaits(tx, sagaId, outcomes, { progress, state });
      const interrupted = outcomes.some(({ kind }) => kind === 'interrupted');
      // To ask holds up who gives positions.
      const isDue = interrupted || (waits && (await isWaitOver(tx, this.#deps.events, sagaId)));
      const wakeAt = isDue ? this.#deps.clock.now() : progress.nextRecheck();
      sagaLog.release(tx, this.lease, wakeAt);
      return true;
    });
  }

  async #write<T>(work: (tx: Tx, reason: Reason | undefined) => Promise<T>): Promise<T> {
    const { store, clock, lease } = this.#deps;
    if (this.#lost) throw new RackstartError('saga.fenced', `the lease of saga ${this.lease.sagaId} is lost`);
    const until = clock.now() + lease;
    let noted: Reason | undefined;
    try {
      const result = await store.transaction(async (tx) => {
        noted = await sagaLog.fence(tx, this.lease, until);
        return work(tx, noted);
      });
      this.leaseUntil = until;
      if (noted !== undefined) this.turnBack(noted);
      return result;
    } catch (error) {
      if (hasCode(error, 'saga.fenced')) this.lose();
      throw error;
    }
  }
}
