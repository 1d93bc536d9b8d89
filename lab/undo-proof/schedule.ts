import { MINUTE, SECOND } from '../../appliance/kernel/clock.ts';
import { examine } from '../../appliance/store/doctor.ts';
import { Dice } from '../fuzz/dice.ts';
import { ArmedFaults } from './armed-faults.ts';
import type { ArmedFault } from './armed-faults.ts';
import { enterAccessDetails } from './hand-made.ts';
import { leftOver, removeHoldings } from './left-over.ts';
import { outcomes } from './outcomes.ts';
import { openSite } from './site.ts';
import type { Choice, Site } from './site.ts';
import type { Template } from './template.ts';
import type { Worker } from './worker.ts';

export interface ScheduleVerdict {
  readonly seed: string;
  /** What was done, in order, and what went wrong with which effect. */
  readonly told: readonly string[];
  /** How many requests there were, by how they ended. */
  readonly ends: Readonly<Record<string, number>>;
  readonly problems: readonly string[];
}

/**
 * A random history that follows from its seed alone: workers on one store, requests admitted, cancelled and released, effects
 * that fail, hang or come late, workers that die at a random write, time that passes, undos that are stuck. Then
 * everything is repaired and released; and when all has come to rest, nothing may be left.
 */
export async function runSchedule(
  template: Template,
  choices: readonly Choice[],
  seed: string,
): Promise<ScheduleVerdict> {
  const path = template.copy();
  const site = await openSite(path, seed);
  try {
    return await new Schedule(site, choices, seed).run();
  } finally {
    await site.close();
    template.discard(path);
  }
}

const MOST_WORKERS = 3;
const MOST_REQUESTS = 2;
const MOST_TURNS = 5_000;

class Schedule {
  readonly #site: Site;
  readonly #choices: readonly Choice[];
  readonly #seed: string;
  readonly #dice: Dice;
  readonly #told: string[] = [];
  readonly #faults = new ArmedFaults((what) => this.#tell(what));
  /** In how many points a worker dies. */
  readonly #doom = new Map<string, number>();
  readonly #requests: string[] = [];
  #workers = 0;
  #hasSkipped = false;

  constructor(site: Site, choices: readonly Choice[], seed: string) {
    this.#site = site;
    this.#choices = choices;
    this.#seed = seed;
    this.#dice = new Dice('schedule', seed);
  }

  async run(): Promise<ScheduleVerdict> {
    const problems: string[] = [];
    try {
      problems.push(...(await this.#disturb()), ...(await this.#calm()));
    } catch (error) {
      problems.push(`it threw ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    }
    const { ends, wrong } = await outcomes(this.#site.store.read);
    return { seed: this.#seed, told: this.#told, ends, problems: [...problems, ...wrong] };
  }

  /** Six to seventeen things, one after another or one in the middle of another. */
  async #disturb(): Promise<string[]> {
    this.#begin();
    await this.#order();
    for (let left = 6 + this.#dice.below(12); left > 0; left -= 1) {
      await this.#act();
      if (this.#dice.percent(60)) await this.#site.settle();
      else for (let turns = this.#dice.below(20); turns > 0; turns -= 1) await this.#site.turn();
      if (this.#dice.percent(10)) {
        const found = await examine(this.#site.store.read);
        if (found.length > 0) return found.map(({ invariant, subject }) => `meanwhile: ${invariant}: ${subject}`);
      }
    }
    return [];
  }

  #act(): Promise<void> {
    const acts: readonly [number, () => Promise<void> | void][] = [
      [25, () => this.#passTime()],
      [12, () => this.#order()],
      [12, () => this.#release()],
      [20, () => this.#armFault()],
      [12, () => this.#condemn()],
      [6, () => this.#begin()],
      [8, () => enterAccessDetails(this.#site, this.#living())],
      [5, () => this.#decide(this.#dice.percent(70) ? 'retry' : 'skip')],
    ];
    let chance = this.#dice.below(100);
    const [, act] = acts.find(([share]) => (chance -= share) < 0) ?? acts[0]!;
    return Promise.resolve(act());
  }

  async #passTime(): Promise<void> {
    const spans = [SECOND, 6 * SECOND, 31 * SECOND, 2 * MINUTE, 11 * MINUTE];
    const span = this.#dice.below(this.#dice.pick(spans)) + 1;
    this.#tell(`${(span / SECOND).toFixed(1)} s pass`);
    await this.#site.pass(span);
  }

  async #order(): Promise<void> {
    if (this.#requests.length >= MOST_REQUESTS) return;
    const choice = this.#dice.pick(this.#choices);
    const tenant = this.#dice.pick(['t1', 't2']);
    const id = await this.#site.order(
      this.#living(),
      { ...choice, hostname: `web${String(this.#requests.length)}` },
      tenant,
    );
    this.#requests.push(id);
    this.#tell(`${tenant} orders ${id} of ${Object.values(choice).join(' ')}`);
  }

  async #release(id = this.#dice.pick(this.#requests)): Promise<void> {
    this.#tell(`${id} is released`);
    await this.#site.release(this.#living(), id);
  }

  #armFault(): void {
    const match = this.#dice.pick([/./, /./, /^create /, /^delete /, /^(power|boot|clear)/]);
    const kind = this.#dice.pick<ArmedFault['kind']>(['passing', 'passing', 'permanent', 'hang', 'late']);
    const strikes = this.#dice.pick(['before', 'after'] as const);
    const fault = { match, kind, strikes, delay: this.#dice.below(3 * MINUTE), times: 1 + this.#dice.below(6) };
    this.#tell(`the next ${String(fault.times)} effects like ${String(match)} go wrong: ${kind}, ${strikes}`);
    this.#faults.arm(fault);
  }

  #condemn(): void {
    const worker = this.#living();
    const points = 1 + this.#dice.below(40);
    this.#tell(`${nameOf(worker)} will die in ${String(points)} points`);
    this.#doom.set(nameOf(worker), points);
  }

  #begin(): void {
    const { living } = this.#site;
    if (living.length >= MOST_WORKERS) return;
    this.#workers += 1;
    const owner = `worker ${String(this.#workers)}`;
    this.#tell(`${owner} begins`);
    this.#site.begin({
      ...{ owner, soleOwner: false, everyStepTwice: false },
      onPoint: (what) => this.#pass(owner, what),
      effects: (clock) => this.#faults.on(clock),
    });
  }

  /** An operator looks after what is stuck. */
  async #decide(decision: 'retry' | 'skip'): Promise<boolean> {
    const { store } = this.#site;
    const stuck = await store.read
      .selectFrom('sagas')
      .select('id')
      .where('state', '=', 'stuck')
      .orderBy('id')
      .execute();
    if (stuck.length === 0) return false;
    this.#hasSkipped ||= decision === 'skip';
    const { sagas } = this.#living().process;
    for (const { id } of stuck) {
      this.#tell(`the operator decides to ${decision} ${id}`);
      await store.transaction((tx) => (decision === 'skip' ? sagas.skipStuck(tx, id) : sagas.retryStuck(tx, id)));
    }
    return true;
  }

  /** Everything is repaired, every server released; until nothing has anything left to do. */
  async #calm(): Promise<string[]> {
    this.#tell('everything is repaired and released');
    this.#faults.repair();
    this.#doom.clear();
    for (const id of this.#requests) await this.#release(id);
    for (let turn = 0; turn < MOST_TURNS; turn += 1) {
      await this.#site.settle();
      const worker = this.#living();
      if ((await this.#site.atRest()) && !(await this.#decide('retry'))) {
        if (this.#hasSkipped) await removeHoldings(this.#site);
        return leftOver(this.#site, { quarantine: true });
      }
      await worker.stalled.look();
      await this.#site.nextWake();
    }
    return ['it came to no end', ...(await leftOver(this.#site, { quarantine: true }))];
  }

  /** Any worker that lives; a new one where none does. */
  #living(): Worker {
    if (this.#site.living.length === 0) this.#begin();
    return this.#dice.pick(this.#site.living);
  }

  #pass(owner: string, what: string): void {
    const left = this.#doom.get(owner);
    if (left === undefined) return;
    this.#doom.set(owner, left - 1);
    if (left > 1) return;
    this.#doom.delete(owner);
    this.#tell(`${owner} dies at ${what}`);
    for (const worker of this.#site.living) if (nameOf(worker) === owner) this.#site.kill(worker);
  }

  #tell(what: string): void {
    this.#told.push(`${String((this.#site.clock.now() / SECOND) % 86_400)} s: ${what}`);
  }
}

function nameOf({ owner }: Worker): string {
  return owner;
}
