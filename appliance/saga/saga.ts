import type { Millis } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Tx } from '../store/store.ts';
import type { Reason, Step } from './step.ts';

/** What every step of a saga is given: the parameters, and the outputs of the steps before it by their names. */
export interface SagaInput<Params, Done> {
  readonly params: Params;
  readonly done: Done;
}

/** A plan of steps. A running saga keeps the version it was started with: a changed plan is a new version beside the old. */
export interface SagaDefinition<Params, Deps> {
  readonly name: string;
  readonly version: number;
  /** In order; the steps of one stage run side by side. */
  readonly stages: readonly (readonly NamedStep<Params, Deps>[])[];
}

export interface NamedStep<Params, Deps> {
  readonly name: string;
  readonly step: Step<SagaInput<Params, never>, unknown, Deps>;
}

/** A saga as its listener sees it. */
export interface SagaFacts<Params = unknown> {
  readonly id: string;
  readonly name: string;
  readonly subject: string;
  readonly tenantId: string | undefined;
  readonly params: Params;
}

/**
 * Told of what a saga does inside the transaction that records it, so that both are true or neither. A transaction may
 * run more than once: a listener writes with `tx` and does nothing else.
 */
export interface SagaListener<Params = unknown> {
  stepStarted(tx: Tx, saga: SagaFacts<Params>, step: string): Promise<void>;
  stepDone(tx: Tx, saga: SagaFacts<Params>, step: StepDone): Promise<void>;
  turnedBack(tx: Tx, saga: SagaFacts<Params>, reason: Reason): Promise<void>;
  /** With the outputs of all its steps, by name. */
  completed(tx: Tx, saga: SagaFacts<Params>, outputs: Readonly<Record<string, unknown>>): Promise<void>;
  undone(tx: Tx, saga: SagaFacts<Params>, reason: Reason): Promise<void>;
  stuck(tx: Tx, saga: SagaFacts<Params>, step: string, error: Reason): Promise<void>;
}

export interface StepDone {
  readonly name: string;
  readonly output: unknown;
  readonly startedAt: Millis;
}

/** A definition with what its steps work with and who is told. */
export interface BoundSaga {
  readonly definition: SagaDefinition<unknown, unknown>;
  readonly deps: unknown;
  readonly listener: Partial<SagaListener>;
}

export function bindSaga<Params, Deps>(
  definition: SagaDefinition<Params, Deps>,
  deps: Deps,
  listener: Partial<SagaListener<Params>> = {},
): BoundSaga {
  return { definition, deps, listener } as unknown as BoundSaga;
}

/** `saga<Params, Deps>('provision', 1).step('allocate', allocate).all({ dns, firewall }).build()` */
export function saga<Params, Deps>(name: string, version: number): SagaBuilder<Params, Deps> {
  return new SagaBuilder(name, version, []);
}

// eslint-disable-next-line @typescript-eslint/no-empty-object-type -- nothing is done before the first step
class SagaBuilder<Params, Deps, Done = {}> {
  readonly #name: string;
  readonly #version: number;
  readonly #stages: SagaDefinition<Params, Deps>['stages'];

  constructor(name: string, version: number, stages: SagaDefinition<Params, Deps>['stages']) {
    this.#name = name;
    this.#version = version;
    this.#stages = stages;
  }

  step<Name extends string, Out>(
    name: Name,
    step: Step<SagaInput<Params, Done>, Out, Deps>,
  ): SagaBuilder<Params, Deps, Done & Record<Name, Out>> {
    return this.#with([{ name, step: step as unknown as NamedStep<Params, Deps>['step'] }]);
  }

  /** Steps side by side: none sees another's output, the next stage sees all. */
  all<Outs extends Record<string, unknown>>(steps: {
    readonly [Name in keyof Outs]: Step<SagaInput<Params, Done>, Outs[Name], Deps>;
  }): SagaBuilder<Params, Deps, Done & Outs> {
    const stage: [string, unknown][] = Object.entries(steps);
    return this.#with(stage.map(([name, step]) => ({ name, step: step as NamedStep<Params, Deps>['step'] })));
  }

  build(): SagaDefinition<Params, Deps> {
    const names = this.#stages.flat().map(({ name }) => name);
    const twice = names.find((name, index) => names.indexOf(name) !== index);
    if (twice !== undefined) throw new RackstartError('internal', `saga ${this.#name} has two steps ${twice}`);
    return { name: this.#name, version: this.#version, stages: this.#stages };
  }

  #with<After>(stage: readonly NamedStep<Params, Deps>[]): SagaBuilder<Params, Deps, After> {
    return new SagaBuilder(this.#name, this.#version, [...this.#stages, stage]);
  }
}
