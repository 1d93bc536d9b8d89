import type { Cursor, EventLog } from '../events/event-log.ts';
import type { Millis } from '../kernel/clock.ts';
import type { SagaStepRow, SagaWaitRow } from '../store/schema.ts';
import type { Reader } from '../store/store.ts';
import { pastWaits, stepsOf, waitsOf } from './saga-log.ts';
import type { Lease } from './saga-log.ts';
import type { SagaDefinition } from './saga.ts';
import { reasonIn } from './step.ts';
import type { StepForward, WaitFor } from './step.ts';

/** How far a saga is: its steps as they were read from its log, and as its owner has written them since. */
export class SagaProgress {
  readonly #stages: SagaDefinition<unknown, unknown>['stages'];
  readonly #steps: Map<string, SagaStepRow>;
  readonly #waits: readonly SagaWaitRow[];
  readonly #pastWaits: readonly Omit<SagaWaitRow, 'since'>[];
  readonly #readAt: Cursor;

  private constructor(
    { stages }: SagaDefinition<unknown, unknown>,
    rows: { steps: SagaStepRow[]; waits: SagaWaitRow[]; past: Omit<SagaWaitRow, 'since'>[]; readAt: Cursor },
  ) {
    this.#stages = stages;
    this.#steps = new Map(rows.steps.map((row) => [row.name, row]));
    this.#waits = rows.waits;
    this.#pastWaits = rows.past;
    this.#readAt = rows.readAt;
  }

  static async read(
    read: Reader,
    events: EventLog,
    definition: SagaDefinition<unknown, unknown>,
    { sagaId, epoch }: Lease,
  ): Promise<SagaProgress> {
    // Nobody has owned it before: nothing of it is written.
    if (epoch === 1) return new SagaProgress(definition, { steps: [], waits: [], past: [], readAt: 0 });
    const waits = await waitsOf(read, sagaId);
    const steps = await stepsOf(read, sagaId);
    // Only waits compare with the position, and most sagas sleep until a time: one statement less a claim.
    if (waits.length === 0) return new SagaProgress(definition, { steps, waits, past: [], readAt: 0 });
    // The position first: what a step looks at from now on is at least as new.
    const readAt = await events.position();
    return new SagaProgress(definition, { steps, waits, past: await pastWaits(read, sagaId), readAt });
  }

  /** Undefined when it has never started. */
  step(name: string): SagaStepRow | undefined {
    return this.#steps.get(name);
  }

  started(row: SagaStepRow): void {
    this.#steps.set(row.name, row);
  }

  changed(name: string, change: Partial<SagaStepRow>): void {
    const row = this.#steps.get(name);
    if (row !== undefined) this.#steps.set(name, { ...row, ...change });
  }

  /** Whether a step that waits shall look again: its time has come, or what it waits for. */
  isDue(name: string, now: Millis): boolean {
    const recheckAt = this.#steps.get(name)?.recheck_at ?? null;
    return recheckAt === null || recheckAt <= now || this.#pastWaits.some(({ step }) => step === name);
  }

  /** Whether it, or any step at all, has waits in the log. */
  hasWaits(name?: string): boolean {
    return this.#waits.some(({ step }) => name === undefined || step === name);
  }

  /** When the first of the waiting steps is to look again. */
  nextRecheck(): Millis {
    const times = [...this.#steps.values()].flatMap(({ recheck_at }) => recheck_at ?? []);
    return times.length === 0 ? 0 : Math.min(...times);
  }

  /** The stage behind this step's, none behind the last; undefined while others of its own are not done. */
  stageAfter(name: string): SagaDefinition<unknown, unknown>['stages'][number] | undefined {
    const at = this.#stages.findIndex((steps) => steps.some((step) => step.name === name));
    const isAlone = this.#stages[at]?.every((step) => step.name === name || this.step(step.name)?.state === 'done');
    return isAlone === true ? (this.#stages[at + 1] ?? []) : undefined;
  }

  ordinal(name: string): number {
    return this.#stages.flat().findIndex((step) => step.name === name);
  }

  output(name: string): unknown {
    const output = this.#steps.get(name)?.output ?? null;
    return output === null ? undefined : (JSON.parse(output) as unknown);
  }

  /** How it went until now, as JSON. */
  forward(name: string): string | null {
    const row = this.#steps.get(name);
    if (row === undefined) return null;
    const { tries, error, started_at: startedAt, ended_at: endedAt } = row;
    return JSON.stringify({ tries, error: reasonIn(error) ?? null, startedAt, endedAt } satisfies StepForward);
  }

  outputs(): Record<string, unknown> {
    return Object.fromEntries([...this.#steps.keys()].map((name) => [name, this.output(name)]));
  }

  /** The outputs of the stages before this step's. */
  outputsBefore(name: string): Record<string, unknown> {
    const stage = this.#stages.findIndex((steps) => steps.some((step) => step.name === name));
    const before = this.#stages.slice(0, stage).flat();
    return Object.fromEntries(before.map((step) => [step.name, this.output(step.name)]));
  }

  /**
   * An event that has woken a step once does not wake it again, even when the step names the same `since`: it could see what
   * that event changed, and would be run without end.
   */
  freshWaits(step: string, on: readonly WaitFor[]): WaitFor[] {
    const fresh = new Map<string, WaitFor>();
    for (const { type, key, since } of on) {
      const same = (other: Omit<SagaWaitRow, 'since'>) =>
        other.step === step && other.type === type && other.key === key;
      const before = this.#waits.find(same)?.since ?? 0;
      const seen = this.#pastWaits.some(same) ? this.#readAt : 0;
      fresh.set(`${type} ${key}`, { type, key, since: Math.max(since, before, seen) });
    }
    return [...fresh.values()];
  }
}
