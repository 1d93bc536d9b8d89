import { RackstartError } from '../kernel/errors.ts';
import { refusedUntil } from '../kernel/guard.ts';
import type { ResourceRow } from '../store/schema.ts';
import { isTransient } from './retry.ts';
import { insertResources, keyOf, resourcesOf, setCreated, setDeleted, setDeleting } from './resource-log.ts';
import type { Created } from './resource-log.ts';
import { Refs, refsIn } from './resource-plan.ts';
import type { Planned, ResourcePlan } from './resource-plan.ts';
import { done } from './step.ts';
import type { Step, StepContext, StepResult, WaitFor, Write } from './step.ts';

/**
 * A step made from a plan of resources; its output holds their refs by name. What doesn't depend on each other is made
 * side by side, and so is undone, dependents first.
 *
 * The intent is written down before each effect, so that a crash between effect and record leaves no unknown: the next
 * run finds what was finished, makes the rest again under the same key, or the undo deletes it. So the record itself may
 * wait for the next transaction, and has none of its own: intents are written with the start of the step, records with the
 * intents of what stands after them, and with the end of the run. So it is on the way back: what is not written as deleted is
 * deleted again.
 */
export function resourceStep<In, Deps>(
  plan: (input: In) => ResourcePlan<Deps>,
): Step<In & Before, Readonly<Record<string, unknown>>, Deps> {
  return {
    begin(input) {
      const names = firstOf(plan(input));
      return async (tx, { startedAt, ...start }) => insertResources(tx, { ...start, names, now: startedAt });
    },
    run: (input, ctx) => create(plan(input), refsIn(input.done), ctx),
    beginUndo: setDeleting,
    undo: (input, _output, ctx) => remove(plan(input), ctx),
  };
}

/** The outputs of the steps before. */
interface Before {
  readonly done: object;
}

/** What stands after nothing. */
function firstOf({ resources }: ResourcePlan<never>): string[] {
  return resources.filter(({ after }) => after.length === 0).map(({ name }) => name);
}

async function create<Deps>(
  plan: ResourcePlan<Deps>,
  earlier: Readonly<Record<string, unknown>>,
  ctx: StepContext<Deps>,
): Promise<StepResult<Readonly<Record<string, unknown>>>> {
  const rows = await ownRows(plan, ctx);
  const created = new Map<string, unknown>();
  const records = new Records(ctx.sagaId);
  const visible = (resource: Planned<Deps>) => {
    const names = ancestors(plan, resource);
    return new Refs(new Map([...Object.entries(earlier), ...[...created].filter(([name]) => names.has(name))]));
  };

  try {
    const waits = await inOrder(
      plan.resources,
      ({ after }) => after,
      async (resource) => {
        const result = await createOne(
          resource,
          rows.get(resource.name),
          () => resource.spec(visible(resource)),
          records,
          ctx,
        );
        if (result.kind === 'done') created.set(resource.name, result.output);
        return result;
      },
    );
    return { ...(waits ?? done(Object.fromEntries(created))), record: records.take() };
  } catch (error) {
    if (records.any) await ctx.transaction(records.take());
    throw error;
  }
}

type OwnRow = Pick<ResourceRow, 'state' | 'ref'>;

/** What this step has intended and made so far. Before its first run that is what was written with its start: nobody has to look. */
async function ownRows(
  plan: ResourcePlan<never>,
  { first, read, sagaId, step }: Pick<StepContext<unknown>, 'first' | 'read' | 'sagaId' | 'step'>,
): Promise<ReadonlyMap<string, OwnRow>> {
  if (first) return new Map(firstOf(plan).map((name) => [name, { state: 'intended', ref: null }]));
  const rows = await resourcesOf(read, sagaId);
  return new Map(rows.filter((row) => row.step === step).map((row) => [row.name, row]));
}

async function createOne<Deps>(
  { name, resource }: Planned<Deps>,
  row: OwnRow | undefined,
  spec: () => unknown,
  records: Records,
  ctx: StepContext<Deps>,
): Promise<StepResult<unknown>> {
  if (row?.state === 'created') return done(parse(row.ref));
  const { sagaId, step, tenantId, clock } = ctx;
  const key = keyOf(sagaId, name);
  if (row === undefined) {
    const record = records.take();
    await ctx.transaction(async (tx) => {
      await record(tx);
      insertResources(tx, { sagaId, step, names: [name], tenantId, now: clock.now() });
    });
  }
  // In the first run, and after one that ended in order, in a wait, nothing was finished unseen: nobody has to look.
  const isSeen = row === undefined || ctx.first || ctx.waited;
  const found = isSeen ? undefined : await resource.find(key, ctx);
  const result = found === undefined ? await resource.create(key, spec(), ctx) : done(found);
  if (result.kind === 'wait') return result;
  return done(parse(records.add(name, result.output)));
}

/** What was created and is not written yet. */
class Records {
  readonly #sagaId: string;
  #waiting: Created[] = [];

  constructor(sagaId: string) {
    this.#sagaId = sagaId;
  }

  get any(): boolean {
    return this.#waiting.length > 0;
  }

  /** The ref as it will be read again. */
  add(name: string, output: unknown): string | null {
    const ref = (JSON.stringify(output) as string | undefined) ?? null;
    this.#waiting.push({ name, ref });
    return ref;
  }

  /** Writes all that waits; whoever takes it writes it, and nobody else. */
  take(): Write {
    const waiting = this.#waiting;
    this.#waiting = [];
    return async (tx) => setCreated(tx, this.#sagaId, waiting);
  }
}

async function remove<Deps>(plan: ResourcePlan<Deps>, ctx: StepContext<Deps>): Promise<StepResult<void>> {
  const rows = (await resourcesOf(ctx.read, ctx.sagaId)).filter(({ step }) => step === ctx.step);
  const unplanned = rows.find(({ name }) => !plan.resources.some((planned) => planned.name === name));
  // Leaving it out would be forgetting an effect.
  if (unplanned !== undefined) throw new RackstartError('internal', `no plan for the resource ${unplanned.name}`);
  const dependents = ({ name }: Planned<Deps>) =>
    plan.resources.filter(({ after }) => after.includes(name)).map((other) => other.name);

  const deleted: string[] = [];
  const record: Write = async (tx) => setDeleted(tx, ctx.sagaId, deleted, ctx.clock.now());
  try {
    const waits = await inOrder(plan.resources.toReversed(), dependents, async ({ name, resource }) => {
      const row = rows.find((other) => other.name === name);
      if (row === undefined || row.state === 'deleted') return done();
      const result = await resource.delete(row.key, parse(row.ref), ctx);
      if (result.kind === 'done') deleted.push(name);
      return result;
    });
    return { ...(waits ?? done()), record };
  } catch (error) {
    if (deleted.length > 0) await ctx.transaction(record);
    throw error;
  }
}

/**
 * Runs `work` for every resource, each as soon as those it depends on are done; a dependent of one that waits or failed
 * is left out. Undefined when all are done, else all their waits as one. The first error, when what runs has settled.
 */
async function inOrder<Deps>(
  resources: readonly Planned<Deps>[],
  dependencies: (resource: Planned<Deps>) => readonly string[],
  work: (resource: Planned<Deps>) => Promise<StepResult<unknown>>,
): Promise<(StepResult<never> & { kind: 'wait' }) | undefined> {
  const waits: { recheckAt: number; on?: readonly WaitFor[] }[] = [];
  const runs = new Map<string, Promise<boolean>>();
  for (const resource of resources) {
    // A plan is sorted: what a resource depends on runs already.
    const before = Promise.allSettled(dependencies(resource).flatMap((name) => runs.get(name) ?? []));
    const run = before.then(async (settled) => {
      if (!settled.every((one) => one.status === 'fulfilled' && one.value)) return false;
      const result = await work(resource);
      if (result.kind === 'wait') waits.push(result);
      return result.kind === 'done';
    });
    runs.set(resource.name, run);
  }
  const settled = await Promise.allSettled(runs.values());
  const failures = settled.filter((one) => one.status === 'rejected').map(({ reason }) => reason as unknown);
  // One that no retry can help ends the step now; what was refused unheard says less than what was tried.
  const tried = failures.filter((error) => refusedUntil(error) === undefined);
  if (failures.length > 0) throw tried.find((error) => !isTransient(error)) ?? tried[0] ?? failures[0];
  if (waits.length === 0) return undefined;
  return {
    kind: 'wait',
    recheckAt: Math.min(...waits.map(({ recheckAt }) => recheckAt)),
    on: waits.flatMap(({ on = [] }) => on),
  };
}

function ancestors<Deps>(plan: ResourcePlan<Deps>, { after }: Planned<Deps>): Set<string> {
  const names = new Set<string>();
  const add = (name: string) => {
    names.add(name);
    plan.resources.find((other) => other.name === name)?.after.forEach(add);
  };
  after.forEach(add);
  return names;
}

function parse(json: string | null): unknown {
  return json === null ? undefined : (JSON.parse(json) as unknown);
}
