import { examine } from '../../appliance/store/doctor.ts';
import type { Finding } from '../../appliance/store/doctor.ts';
import type { Disturbance, PassedEffect } from './effects.ts';
import { Effects } from './effects.ts';
import { leftOver, removeHoldings } from './left-over.ts';
import { openSite } from './site.ts';
import type { Site } from './site.ts';
import type { Template } from './template.ts';
import type { Worker } from './worker.ts';

/** One row of the matrix: a saga on a provider, in a world of its own. */
export interface SagaCase {
  readonly saga: string;
  readonly provider: string;
  /** It works on two beside each other: what goes wrong with one need not end it. */
  readonly machines?: 2;
  /** Brings things about that the saga starts from, and starts it. */
  begin(site: Site, worker: Worker): Promise<void>;
  /** When it has completed: asks for it to be undone. Absent where what is done stays done. */
  giveBack?(site: Site, worker: Worker): Promise<void>;
  /** While it is under way; absent where nobody can. */
  cancel?(site: Site, worker: Worker): Promise<void>;
  /** No step of it has anything to take back: it is never undone, and no undo fails. */
  readonly undoesNothing?: true;
  /** What people do meanwhile. Called often. */
  elapse?(site: Site, worker: Worker): Promise<void>;
}

/** What is done to one run of a saga. Numbers count from 1, over all lives. */
export interface Scenario {
  readonly name: string;
  readonly disturbances?: readonly Disturbance[];
  readonly twice?: 'effects' | 'steps';
  readonly killAt?: readonly number[];
  /** The same by SIGKILL, each counted from the beginning of the process that dies there. */
  readonly sigkillAt?: readonly Moment[];
  /** The last life begins with a cancellation: what the one before was at is undone, and not made first. */
  readonly thenCancel?: boolean;
  readonly cancelAt?: number;
  /** What the operator does about an undo that is stuck; default: repairs what is in the way, and retries. */
  readonly operator?: 'retries' | 'skips';
  /** How its way forward must end; absent when that depends on what was quicker. */
  readonly end?: End;
  /** Whether a machine may stay in quarantine: it could not be proven off, or not be wiped. */
  readonly quarantine?: boolean;
}

/** The nth of the points that are named so, or of all of them; from 1. */
export interface Moment {
  readonly what?: string;
  readonly nth: number;
}

export type End = 'completed' | 'undone';

export interface Verdict {
  readonly scenario: string;
  readonly end: End | 'none';
  /** Why its way forward ended; undefined when it completed. */
  readonly code: string | undefined;
  readonly lives: number;
  readonly stuck: number;
  /** Whether what was to go wrong did. */
  readonly met: boolean;
  /** What was wrong at the end; empty is the proof. */
  readonly problems: readonly string[];
}

/** What an undisturbed run passes, for scenarios to be made of. */
export interface Course {
  readonly points: readonly string[];
  readonly effects: readonly PassedEffect[];
  /** How many points its way forward has. */
  readonly forward: number;
}

/** One run of a saga under one scenario, from its start to where nothing has anything left to do. */
export async function tryOnce(
  subject: SagaCase,
  template: Template,
  scenario: Scenario,
): Promise<{ verdict: Verdict; course: Course }> {
  const path = template.copy();
  const site = await openSite(path, scenario.name);
  try {
    const trial = new Trial(subject, site, scenario);
    const verdict = await trial.run();
    return { verdict, course: trial };
  } finally {
    await site.close();
    template.discard(path);
  }
}

/** No run takes as many; one that does goes round in circles. */
const MOST_TURNS = 5_000;
const MOST_DECISIONS = 10;

export class Trial implements Course {
  readonly points: string[] = [];
  forward = 0;
  readonly #case: SagaCase;
  readonly #site: Site;
  readonly #scenario: Scenario;
  readonly #effects: Effects;
  readonly #onPoint: (what: string) => void;
  #worker: Worker;
  #lives = 0;
  #stuck = 0;
  #cancelled = false;
  /** When it was stuck. */
  #doctorsFindings: readonly Finding[] = [];

  constructor(subject: SagaCase, site: Site, scenario: Scenario, onPoint: (what: string) => void = () => undefined) {
    this.#onPoint = onPoint;
    this.#case = subject;
    this.#site = site;
    this.#scenario = scenario;
    const { disturbances = [], twice } = scenario;
    this.#effects = new Effects(disturbances, twice === 'effects');
    this.#worker = this.#begin();
  }

  get effects(): readonly PassedEffect[] {
    return this.#effects.passed;
  }

  async run(): Promise<Verdict> {
    const { name: scenario, end, quarantine = false, disturbances = [] } = this.#scenario;
    const { cancelAt, killAt = [], thenCancel = false } = this.#scenario;
    const site = this.#site;
    // There is one when another process was killed at it.
    if ((await this.#begun()) === undefined) await this.#case.begin(site, this.#worker);
    else if (thenCancel) await this.#case.cancel?.(site, this.#worker);
    const problems = [...(await this.#untilRest())];
    const ended = await this.#ended();
    this.forward = this.points.length;
    if (ended.end === 'completed' && problems.length === 0 && this.#case.giveBack !== undefined) {
      this.#effects.turned = true;
      await this.#case.giveBack(site, this.#worker);
      problems.push(...(await this.#untilRest()));
    }
    const isSpared = end === 'undone' && this.#case.machines !== undefined;
    if (end !== undefined && ended.end !== end && !isSpared)
      problems.push(`its way forward ended ${ended.end} (${ended.code ?? ''}), not ${end}`);
    if (this.#scenario.operator === 'skips') await removeHoldings(site);
    const care = this.#case.giveBack === undefined && ended.end === 'undone';
    problems.push(
      ...this.#doctorsFindings.map(({ invariant, subject }) => `while it was stuck: ${invariant}: ${subject}`),
    );
    problems.push(...(await leftOver(site, { quarantine: quarantine || care })));
    const met =
      this.#effects.mishaps >= disturbances.length &&
      (cancelAt === undefined || this.#cancelled) &&
      this.#lives > killAt.length;
    return { scenario, ...ended, lives: this.#lives, stuck: this.#stuck, met, problems };
  }

  async #untilRest(): Promise<string[]> {
    const site = this.#site;
    for (let turn = 0; turn < MOST_TURNS; turn += 1) {
      await site.settle();
      if (site.living.length === 0) {
        this.#worker = this.#begin();
        if (this.#scenario.thenCancel === true) await this.#case.cancel?.(site, this.#worker);
        continue;
      }
      if (await site.atRest()) {
        if (!(await this.#decide())) return [];
        continue;
      }
      await this.#case.elapse?.(site, this.#worker);
      if (this.#hangs()) await this.#worker.stalled.look();
      await site.nextWake();
    }
    return ['it came to no end'];
  }

  #hangs(): boolean {
    return this.#scenario.disturbances?.some(({ mishap }) => mishap.kind === 'hangs') === true;
  }

  /** An operator looks after what is stuck; false when nothing is. */
  async #decide(): Promise<boolean> {
    const { store } = this.#site;
    const { sagas } = this.#worker.process;
    const stuck = await store.read.selectFrom('sagas').select('id').where('state', '=', 'stuck').execute();
    if (stuck.length === 0 || this.#stuck > MOST_DECISIONS) return false;
    this.#stuck += 1;
    // What somebody has skipped is left to them.
    if (this.#stuck === 1) this.#doctorsFindings = await examine(store.read);
    const skips = this.#scenario.operator === 'skips';
    if (!skips) this.#effects.repaired = true;
    for (const { id } of stuck) {
      await store.transaction((tx) => (skips ? sagas.skipStuck(tx, id) : sagas.retryStuck(tx, id)));
    }
    return true;
  }

  async #ended(): Promise<{ end: Verdict['end']; code: string | undefined }> {
    const { state, reason } = await this.#saga();

    const code = reason === null ? undefined : (JSON.parse(reason) as { code: string }).code;
    return { end: state === 'completed' || state === 'undone' ? state : 'none', code };
  }

  async #saga() {
    const saga = await this.#begun();
    if (saga === undefined) throw new Error(`no ${this.#case.saga} was started`);
    return saga;
  }

  /** The one that is proven: the first of its name; of several beside each other, the one that has completed. */
  async #begun() {
    const sagas = await this.#sagas();
    return sagas.find(({ state }) => state === 'completed') ?? sagas[0];
  }

  #sagas() {
    return this.#site.store.read
      .selectFrom('sagas')
      .select(['state', 'reason'])
      .where('name', '=', this.#case.saga)
      .orderBy('created_at')
      .orderBy('id')
      .execute();
  }

  #begin(): Worker {
    this.#lives += 1;
    return this.#site.begin({
      onPoint: (what) => this.#pass(what),
      effects: () => async (name, work, how) => {
        if (!this.#effects.turned)
          this.#effects.turned = (await this.#sagas()).some(({ state }) => state === 'undoing');
        return this.#effects.run(name, work, how);
      },
      everyStepTwice: this.#scenario.twice === 'steps',
    });
  }

  async #pass(what: string): Promise<void> {
    const { killAt = [], cancelAt } = this.#scenario;
    this.points.push(what);
    this.#onPoint(what);
    const at = this.points.length;
    if (at === cancelAt) {
      this.#cancelled = true;
      await this.#case.cancel?.(this.#site, this.#worker);
    }
    if (killAt.includes(at)) for (const worker of this.#site.living) this.#site.kill(worker);
  }
}
