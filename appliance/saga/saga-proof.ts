import { RackstartError } from '../kernel/errors.ts';
import type { ManualClock } from '../kernel/manual-clock.ts';
import type { Store } from '../store/store.ts';
import { bindSaga } from './saga.ts';
import type { SagaDefinition, SagaListener } from './saga.ts';
import { TestProcess } from './test-process.ts';

/** Every effect on the world goes through one of these; `name` is for people. */
export type Effect = <T>(name: string, work: () => Promise<T>) => Promise<T>;

/** A saga with a simulated world around it. */
export interface ProofSubject<Params, Deps, World> {
  readonly definition: SagaDefinition<Params, Deps>;
  readonly params: Params;
  readonly tenantId?: string;
  /** The world outside, with nothing held in it; it outlives the processes that act on it. */
  world(): World;
  /** What the steps of one process work with. */
  deps(world: World, effect: Effect, process: TestProcess): Deps;
  listener?(world: World, process: TestProcess): Partial<SagaListener<Params>>;
  /** What the world does by itself while the saga sleeps, such as a machine that phones home. May be called often. */
  elapse?(world: World, process: TestProcess): Promise<void>;
  /** What is still held, by name. */
  left(world: World): readonly string[];
}

export interface ProofRow {
  /** What was done to it. */
  scenario: string;
  /** How its way forward ended; a completed saga is turned back afterwards. */
  end: 'completed' | 'undone';
  /** Daemons it took. */
  lives: number;
  /** What was wrong at the end; empty is the proof. */
  problems: readonly string[];
}

/**
 * Runs the saga again and again: undisturbed and undone; each effect failing for good, or once, before and after it happens;
 * each effect done twice; cancelled, and killed, behind every write and every effect. Afterwards it must
 * have come to an end, and nothing may be held in the world or left in the log.
 */
export async function proveSaga<Params, Deps, World>(
  subject: ProofSubject<Params, Deps, World>,
  { store, clock }: { store: Store; clock: ManualClock },
): Promise<ProofRow[]> {
  const plain = new Trial(subject, store, clock, { name: 'undisturbed', end: 'completed' });
  const rows = [await plain.run()];
  for (const scenario of scenarios(plain)) rows.push(await new Trial(subject, store, clock, scenario).run());
  return rows;
}

interface Scenario {
  name: string;
  /** How the way forward must end; absent when that depends on what was quicker. */
  end?: ProofRow['end'];
  /** The number of the point at which this happens, counted over all lives. */
  killAt?: number;
  cancelAt?: number;
  /** The number of the effect that fails, once. */
  fail?: { effect: number; when: 'before' | 'after'; error: Error };
  twice?: boolean;
}

function scenarios({
  points,
  effects,
  forward,
}: Pick<Trial<never, never, never>, 'points' | 'effects' | 'forward'>): Scenario[] {
  // The state of log and world is another one behind each commit and each effect; between two of them it is the same.
  const numbered = points
    .map((what, index) => ({ what, at: index + 1, where: `${what} (point ${index + 1})` }))
    .filter(({ what }) => what === 'written' || what.startsWith('after '));
  const permanent = new RackstartError('internal', 'made to fail');
  const transient = new RackstartError('bmc.unreachable', 'made to fail once');
  const whens = ['before', 'after'] as const;
  return [
    { name: 'every effect twice', end: 'completed', twice: true },
    ...effects.flatMap(({ name, backward }, index): Scenario[] =>
      whens.flatMap((when): Scenario[] => {
        const fail = { effect: index + 1, when };
        const once: Scenario = {
          name: `fails once ${when} ${name}`,
          end: 'completed',
          fail: { ...fail, error: transient },
        };
        return backward
          ? [once]
          : [once, { name: `fails ${when} ${name}`, end: 'undone', fail: { ...fail, error: permanent } }];
      }),
    ),
    ...numbered
      .filter(({ at }) => at <= forward)
      .map(({ at, where }): Scenario => {
        return { name: `cancelled at ${where}`, cancelAt: at };
      }),
    ...numbered.map(({ at, where }): Scenario => ({ name: `killed at ${where}`, end: 'completed', killAt: at })),
  ];
}

class Trial<Params, Deps, World> {
  readonly points: string[] = [];
  readonly effects: { name: string; backward: boolean }[] = [];
  readonly #subject: ProofSubject<Params, Deps, World>;
  readonly #store: Store;
  readonly #clock: ManualClock;
  readonly #scenario: Scenario;
  readonly #world: World;
  #process: TestProcess;
  #lives = 0;
  #sagaId = '';
  #turned = false;
  /** How many points its way forward has. */
  forward = 0;

  constructor(subject: ProofSubject<Params, Deps, World>, store: Store, clock: ManualClock, scenario: Scenario) {
    this.#subject = subject;
    this.#store = store;
    this.#clock = clock;
    this.#scenario = scenario;
    this.#world = subject.world();
    this.#process = this.#begin();
  }

  async run(): Promise<ProofRow> {
    const { definition, params, tenantId } = this.#subject;
    const { name, end } = this.#scenario;
    this.#sagaId = await this.#process.start(definition, { subject: `proof: ${name}`, tenantId, params });
    this.#process.run();
    try {
      const ended = await this.#untilEnded();
      if (ended === 'completed') await this.#turnBack();
      const last = ended === 'completed' ? await this.#untilEnded() : ended;
      const problems = [
        ...(end === undefined || ended === end ? [] : [`its way forward ended ${ended}, not ${end}`]),
        ...(last === 'undone' ? [] : [`it ended ${last}`]),
        ...this.#subject.left(this.#world).map((held) => `${held} is still held`),
        ...(await this.#leftInLog()),
      ];
      return { scenario: name, end: ended === 'completed' ? 'completed' : 'undone', lives: this.#lives, problems };
    } finally {
      this.#process.kill();
    }
  }

  async #untilEnded(): Promise<string> {
    for (;;) {
      await this.#process.runUntil(async () => {
        if ((await this.#ended()) !== undefined) return true;
        await this.#subject.elapse?.(this.#world, this.#process);
        return false;
      });
      const ended = await this.#ended();
      if (ended !== undefined) return ended;
      if (!this.#process.isDead()) continue;
      this.#process = this.#begin();
      this.#process.run();
    }
  }

  async #ended(): Promise<string | undefined> {
    const query = this.#store.read.selectFrom('sagas').select(['state', 'reason', 'wake_at']);
    const { state, reason, wake_at } = await query.where('id', '=', this.#sagaId).executeTakeFirstOrThrow();
    return wake_at !== null || (state === 'completed' && reason !== null) ? undefined : state;
  }

  async #turnBack(): Promise<void> {
    this.#turned = true;
    this.forward = this.points.length;
    const reason = { code: 'cancelled', message: 'the proof wants it back' } as const;
    await this.#store.transaction((tx) => this.#process.sagas.turnBack(tx, this.#sagaId, reason));
  }

  #begin(): TestProcess {
    this.#lives += 1;
    const subject = this.#subject;
    return new TestProcess({
      store: this.#store,
      clock: this.#clock,
      owner: `life ${this.#lives}`,
      // Spares the time until leases expire: that they are respected is the runner's own proof.
      soleOwner: true,
      onPoint: (what) => this.#pass(what),
      sagas: (process) => {
        const effect: Effect = (name, work) => this.#effect(process, name, work);
        const deps = subject.deps(this.#world, effect, process);
        return [bindSaga(subject.definition, deps, subject.listener?.(this.#world, process))];
      },
    });
  }

  async #effect<T>(process: TestProcess, name: string, work: () => Promise<T>): Promise<T> {
    const { fail, twice } = this.#scenario;
    this.effects.push({ name, backward: this.#turned });
    const failing = this.effects.length === fail?.effect ? fail : undefined;
    await process.point(`before ${name}`);
    if (failing?.when === 'before') throw failing.error;
    if (twice === true) await work();
    const result = await work();
    await process.point(`after ${name}`);
    if (failing?.when === 'after') throw failing.error;
    return result;
  }

  async #pass(what: string): Promise<void> {
    const { killAt, cancelAt } = this.#scenario;
    this.points.push(what);
    // Side by side on PostgreSQL, two transactions may pass in another order than before; in one there can't be another.
    const isTime = this.points.length >= (cancelAt ?? Infinity) && what !== 'commit';
    if (isTime && !this.#turned) await this.#turnBack();
    if (this.points.length === killAt) this.#process.kill();
  }

  async #leftInLog(): Promise<string[]> {
    const { read } = this.#store;
    const saga = await read.selectFrom('sagas').selectAll().where('id', '=', this.#sagaId).executeTakeFirstOrThrow();
    const steps = await read.selectFrom('saga_steps').selectAll().where('saga_id', '=', saga.id).execute();
    const waits = await read.selectFrom('saga_waits').selectAll().where('saga_id', '=', saga.id).execute();
    const resources = await read.selectFrom('resources').selectAll().where('saga_id', '=', saga.id).execute();
    return [
      ...(saga.owner === null ? [] : [`${saga.owner} still leases it`]),
      ...steps.filter(({ state }) => state !== 'undone').map(({ name, state }) => `step ${name} is ${state}`),
      ...waits.map(({ step, type }) => `step ${step} still waits for ${type}`),
      ...resources.filter(({ state }) => state !== 'deleted').map(({ name, state }) => `resource ${name} is ${state}`),
    ];
  }
}
