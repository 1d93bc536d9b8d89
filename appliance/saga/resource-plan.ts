import { RackstartError } from '../kernel/errors.ts';
import type { StepContext, StepResult } from './step.ts';

/**
 * An effect outside that can be held and given back: a machine, an address, a boot order, a power state. All three are
 * idempotent under `key`, which is known before the first of them runs and never given to another.
 */
export interface Resource<Spec, Ref, Deps> {
  /** Makes it, or goes on making it: called again after a wait, an error or a crash. `Ref` is JSON. */
  create(key: string, spec: Spec, ctx: StepContext<Deps>): Promise<StepResult<Ref>>;
  /** What an earlier `create` under this key has finished; undefined when there is nothing, or nothing finished. */
  find(key: string, ctx: StepContext<Deps>): Promise<Ref | undefined>;
  /** From any state to absent; `ref` is undefined when `create` was never seen to finish. */
  delete(key: string, ref: Ref | undefined, ctx: StepContext<Deps>): Promise<StepResult<void>>;
}

/** What the resources of earlier steps turned out to be, by name: a step that is made of them has their refs as its output. */
export function refsIn(outputs: object): Readonly<Record<string, unknown>> {
  return Object.fromEntries(Object.values(outputs).flatMap((output: unknown) => Object.entries(output ?? {})));
}

/** What has been created so far, by name: the resources of earlier steps, and those that this one stands `after`. */
export class Refs {
  readonly #refs: ReadonlyMap<string, unknown>;

  constructor(refs: ReadonlyMap<string, unknown>) {
    this.#refs = refs;
  }

  /** Throws `internal` when there is no such resource, or none that is surely created by now: a mistake in the plan. */
  // eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters -- says at the use what the name stands for
  get<Ref>(name: string): Ref {
    if (!this.#refs.has(name)) throw new RackstartError('internal', `the plan has no resource ${name} at this point`);
    return this.#refs.get(name) as Ref;
  }
}

export interface Planned<Deps> {
  readonly name: string;
  readonly after: readonly string[];
  readonly resource: Resource<unknown, unknown, Deps>;
  readonly spec: (refs: Refs) => unknown;
}

/** One resource of a plan; its name is unique within the saga. It is made when all those it stands `after` are. */
export function planned<Spec, Ref, Deps>(
  name: string,
  resource: Resource<Spec, Ref, Deps>,
  spec: Exclude<Spec, (...args: never) => unknown> | ((refs: Refs) => Spec),
  { after = [] }: { after?: readonly string[] } = {},
): Planned<Deps> {
  return {
    name,
    after,
    resource: resource,
    spec: typeof spec === 'function' ? (spec as (refs: Refs) => Spec) : () => spec,
  };
}

/** Resources in an order in which each comes behind those it stands after. */
export interface ResourcePlan<Deps> {
  readonly resources: readonly Planned<Deps>[];
}

/** Throws `internal` when a name comes twice, is unknown, or when resources stand after each other in a circle. */
export function resourcePlan<Deps>(...resources: readonly Planned<Deps>[]): ResourcePlan<Deps> {
  const names = resources.map(({ name }) => name);
  for (const [index, { name, after }] of resources.entries()) {
    if (names.indexOf(name) !== index) throw new RackstartError('internal', `the plan has two resources ${name}`);
    const unknown = after.find((other) => !names.includes(other));
    if (unknown !== undefined)
      throw new RackstartError('internal', `${name} stands after ${unknown}, which is not planned`);
  }
  const sorted: Planned<Deps>[] = [];
  const left = new Set(resources);
  while (left.size > 0) {
    const free = [...left].filter(({ after }) => after.every((name) => sorted.some((other) => other.name === name)));
    if (free.length === 0) {
      const circle = [...left].map(({ name }) => name).join(', ');
      throw new RackstartError('internal', `these resources stand after each other: ${circle}`);
    }
    sorted.push(...free);
    for (const resource of free) left.delete(resource);
  }
  return { resources: sorted };
}
