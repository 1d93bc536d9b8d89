import { SECOND } from '../kernel/clock.ts';
import type { Millis } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import { silentLog } from '../kernel/log.ts';
import type { ManualClock } from '../kernel/manual-clock.ts';
import { Refs } from '../saga/resource-plan.ts';
import type { Planned } from '../saga/resource-plan.ts';
import type { StepContext, StepResult } from '../saga/step.ts';
import type { Store } from '../store/store.ts';
import type { Held, Provider, ProvisionStep, ServerSpec } from './provider.ts';
import { provisionSteps } from './provider.ts';

/** What every call that the provider makes outside meets: no answer until its signal aborts, or an error of either kind. */
export type Trouble = 'hang' | 'passing' | 'permanent';

/** A provider in a world that requests can be made in. */
export interface ProviderProofSubject {
  readonly provider: Provider;
  readonly store: Store;
  readonly clock: ManualClock;
  /** A request that was admitted for it, with all that must be there for its steps to run; another one each time. */
  request(): Promise<ServerSpec>;
  /** What the world does by itself while a resource waits: a machine that boots, a person who writes. May be called often. */
  elapse?(spec: ServerSpec): Promise<void>;
  /** From here on calls go wrong, or well again. Absent where nothing outside of the database is called. */
  trouble?(kind: Trouble | undefined): void;
}

/** What is made of a request in one step. */
export type Made = { readonly step: ProvisionStep } & Planned<undefined>;

/** One request, its resources made one after another as the saga would, each under its own key. */
export class ProvenRequest {
  readonly plan: readonly Made[];
  readonly refs = new Map<string, unknown>();
  readonly #subject: ProviderProofSubject;
  readonly #spec: ServerSpec;
  /** When each step, and its undo, began. */
  readonly #began = new Map<string, Millis>();

  constructor(subject: ProviderProofSubject, spec: ServerSpec) {
    this.#subject = subject;
    this.#spec = spec;
    const plan = subject.provider.plan(spec);
    this.plan = provisionSteps.flatMap((step) => plan[step].resources.map((resource) => ({ ...resource, step })));
  }

  async make(): Promise<void> {
    for (const made of this.plan) await this.create(made);
  }

  async unmake(): Promise<void> {
    for (const made of this.plan.toReversed()) await this.delete(made, this.refs.get(made.name));
  }

  /** Until it is done; it waits as often as it wants to. */
  async create(made: Made): Promise<unknown> {
    const ref = await this.#settle((how) => this.#create(made, how));
    // As the log would give it back.
    const kept = ref === undefined ? undefined : (JSON.parse(JSON.stringify(ref)) as unknown);
    this.refs.set(made.name, kept);
    return kept;
  }

  delete(made: Made, ref: unknown): Promise<void> {
    return this.#settle((how) => this.#delete(made, ref, how));
  }

  /** One call, which may end in a wait or an error. */
  createOnce(made: Made): Promise<StepResult<unknown>> {
    return this.#timely(this.#create(made));
  }

  hangingCreate(made: Made): Promise<Ending> {
    return this.#interrupted((signal) => this.#create(made, { signal }));
  }

  hangingDelete(made: Made): Promise<Ending> {
    return this.#interrupted((signal) => this.#delete(made, undefined, { signal }));
  }

  find(made: Made): Promise<unknown> {
    return this.#timely(made.resource.find(this.#key(made), this.#context(made)));
  }

  /** What is held for this request, in whatever order. */
  async holdings(): Promise<readonly Held[]> {
    const [first] = this.plan;
    if (first === undefined) return [];
    const all = await this.#timely(this.#subject.provider.holdings(this.#context(first)));
    const ours = all.filter(({ madeFor }) =>
      'key' in madeFor ? madeFor.key.startsWith(`${this.#sagaId}/`) : madeFor.attemptId === this.#spec.attemptId,
    );
    return ours.toSorted((a, b) => `${a.kind} ${a.id}`.localeCompare(`${b.kind} ${b.id}`));
  }

  remove(held: Held): Promise<void> {
    const [first] = this.plan;
    if (first === undefined) return Promise.resolve();
    return this.#timely(this.#subject.provider.remove(held, this.#context(first)));
  }

  #create(made: Made, change: Change = {}): Promise<StepResult<unknown>> {
    return made.resource.create(
      this.#key(made),
      made.spec(this.#visible(made)),
      this.#context(made, { startedAt: this.#start(`${made.step} forward`), ...change }),
    );
  }

  #delete(made: Made, ref: unknown, change: Change = {}): Promise<StepResult<void>> {
    return made.resource.delete(
      this.#key(made),
      ref,
      this.#context(made, { startedAt: this.#start(`${made.step} back`), ...change }),
    );
  }

  /** What becomes of a call whose signal aborts once it has nothing left to do but to wait. */
  async #interrupted(call: (signal: AbortSignal) => Promise<unknown>): Promise<Ending> {
    const abort = new AbortController();
    const watched = watch(call(abort.signal));
    if (await this.#ends(watched)) return 'ended by itself';
    abort.abort(new RackstartError('cancelled', 'the proof wants it to end'));
    return (await this.#ends(watched)) ? 'interrupted' : 'goes on';
  }

  /** Whether it does, within as long as a call needs for all that it can do: it is answered, and what it writes synced, in turn with us. */
  async #ends(watched: Watched): Promise<boolean> {
    const { store, clock } = this.#subject;
    const until = clock.now() + PROMPT;
    for (let round = 0; round < ROUNDS && !watched.ended; round += 1) {
      await store.read.selectFrom('regions').select('id').limit(1).execute();
      await store.transaction(() => Promise.resolve());
      await this.#pass(until);
    }
    return watched.ended;
  }

  get #sagaId(): string {
    return `saga-of-${this.#spec.attemptId}`;
  }

  #start(what: string): Millis {
    const at = this.#began.get(what) ?? this.#subject.clock.now();
    this.#began.set(what, at);
    return at;
  }

  #key({ name }: Made): string {
    return `${this.#sagaId}/${name}`;
  }

  /** As the saga shows them: those of earlier steps, and those that it stands after. */
  #visible({ step, after }: Made): Refs {
    const seen = new Set(after);
    for (const name of seen) this.plan.find((made) => made.name === name)?.after.forEach((other) => seen.add(other));
    const shown = this.plan.filter((made) => made.step !== step || seen.has(made.name)).map(({ name }) => name);
    return new Refs(new Map([...this.refs].filter(([name]) => shown.includes(name))));
  }

  #context({ step }: Made, change: Change = {}): StepContext<undefined> {
    const { store, clock } = this.#subject;
    const { attemptId, tenantId } = this.#spec;
    return {
      ...{ sagaId: this.#sagaId, step, subject: attemptId, tenantId, key: `${this.#sagaId}/${step}` },
      ...{ deps: undefined, clock, log: silentLog, read: store.read, tries: 1, startedAt: clock.now(), waited: false },
      first: false,
      signal: new AbortController().signal,
      transaction: (work) => store.transaction(work),
      ...change,
    };
  }

  async #settle<T>(run: (how: Change) => Promise<StepResult<T>>): Promise<T> {
    const { clock } = this.#subject;
    for (let waits = 0; waits < WAITS; waits += 1) {
      const result = await this.#timely(run({ waited: waits > 0 }));
      if (result.kind === 'done') return result.output;
      await this.#subject.elapse?.(this.#spec);
      const again = await this.#timely(run({ waited: true }));
      if (again.kind === 'done') return again.output;
      if (again.recheckAt > clock.now()) await clock.advance(again.recheckAt - clock.now());
    }
    throw new Error('it waits without end');
  }

  async #timely<T>(work: Promise<T>): Promise<T> {
    const watched = watch(work);
    while (!watched.ended) await this.#pass();
    return work;
  }

  /** Lets time pass until the next who sleeps until some time. */
  async #pass(until: Millis = Number.MAX_SAFE_INTEGER): Promise<void> {
    const { clock } = this.#subject;
    await new Promise((resolve) => setImmediate(resolve));
    const next = clock.nextWake();
    if (next !== undefined && next <= until) await clock.advance(next - clock.now());
  }
}

const WAITS = 100;
const ROUNDS = 50;
// Longer than a call takes that is answered, and shorter than anybody waits for one that is not.
const PROMPT = 10 * SECOND;

type Change = Partial<StepContext<undefined>>;

type Ending = 'ended by itself' | 'interrupted' | 'goes on';

interface Watched {
  ended: boolean;
}

function watch(work: Promise<unknown>): Watched {
  const watched = { ended: false };
  const end = () => void (watched.ended = true);
  work.then(end, end);
  return watched;
}
