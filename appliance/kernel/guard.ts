import type { BulkheadPolicy, CircuitBreakerPolicy, IBackoff, IHalfOpenAfterBackoffContext } from 'cockatiel';
import {
  BulkheadRejectedError,
  CircuitState,
  ConsecutiveBreaker,
  bulkhead,
  circuitBreaker,
  handleWhenResult,
} from 'cockatiel';

import type { Clock, Millis } from './clock.ts';
import { SECOND } from './clock.ts';
import { RackstartError, asRackstartError, hasCode } from './errors.ts';

/** What a cluster is spared, and when it counts as down. */
export interface GuardRules {
  /** Calls under way at once. */
  readonly inFlight: number;
  /** Calls that wait for their turn; one more is refused. */
  readonly waiting: number;
  /** Failures in a row that open the circuit: each of another member, where calls name theirs. */
  readonly failures: number;
  /** How long an open circuit refuses everything, before one call may try. */
  readonly openFor: Millis;
  /** How long a call may take; then it is told to stop, and waited for no longer. */
  readonly deadline: Millis;
  /** Whether an error is the cluster's own fault: nobody answered. What was answered, a refusal too, shows that it is there. */
  readonly isFault: (error: RackstartError) => boolean;
}

export type CircuitName = 'closed' | 'open' | 'half-open';

export interface GuardView {
  /** Such as `bmc:north/rack-1` or `provider:simulation/east`. */
  readonly cluster: string;
  /** half-open: one call may try, or is trying. */
  readonly state: CircuitName;
  /** Of this state, half-open counting as open; of a circuit that never opened, its first call. */
  readonly since: Millis;
  /** When an open circuit lets one call try. */
  readonly retryAt: Millis | null;
  readonly inFlight: number;
  readonly waiting: number;
  /** In a row, until now. */
  readonly failures: number;
  /** Calls that were refused since the start, unheard by the cluster. */
  readonly refused: number;
  /** How often the circuit has opened since the start. */
  readonly openings: number;
}

/** A circuit that opened, or closed again; that a probe failed is not told. */
export type CircuitTurn =
  | { readonly cluster: string; readonly to: 'open'; readonly at: Millis; readonly error: RackstartError }
  | { readonly cluster: string; readonly to: 'closed'; readonly at: Millis; readonly openedAt: Millis };

interface CallOptions {
  readonly signal: AbortSignal;
  /** Which part of the cluster is called: the failures of one alone say nothing of the others. */
  readonly member?: string;
}

/** One guard a cluster, made at its first call and kept. They are this process's own: another has to learn for itself. */
export class Guards {
  readonly #clock: Clock;
  readonly #onTurn: (turn: CircuitTurn) => void;
  readonly #guards = new Map<string, Guard>();

  constructor(clock: Clock, onTurn: (turn: CircuitTurn) => void = () => undefined) {
    this.#clock = clock;
    this.#onTurn = onTurn;
  }

  of(cluster: string, rules: GuardRules): Guard {
    const known = this.#guards.get(cluster);
    if (known !== undefined) return known;
    const guard = new Guard(cluster, rules, this.#clock, this.#onTurn);
    this.#guards.set(cluster, guard);
    return guard;
  }

  /** By name. */
  list(): GuardView[] {
    const views = [...this.#guards.values()].map((guard) => guard.view());
    return views.sort((a, b) => (a.cluster < b.cluster ? -1 : 1));
  }
}

/**
 * A bulkhead and a circuit breaker around the calls to one cluster. A cluster that is slow keeps only so many callers; one
 * that is down is not asked again by each of them.
 *
 * Refusals are `provider.busy` and `provider.circuit-open`: nothing was tried, and `refusedUntil` says when it may be. A call
 * that hangs ends as `provider.timeout`.
 */
export class Guard {
  readonly #cluster: string;
  readonly #rules: GuardRules;
  readonly #clock: Clock;
  readonly #onTurn: (turn: CircuitTurn) => void;
  readonly #bulkhead: BulkheadPolicy;
  readonly #failures: ConsecutiveBreaker;
  readonly #circuit: CircuitBreakerPolicy;
  readonly #failedMembers = new Set<string>();
  #since: Millis;
  #openedAt: Millis | undefined;
  #retryAt: Millis = 0;
  #refused = 0;
  #openings = 0;

  constructor(cluster: string, rules: GuardRules, clock: Clock, onTurn: (turn: CircuitTurn) => void) {
    this.#cluster = cluster;
    this.#rules = rules;
    this.#clock = clock;
    this.#onTurn = onTurn;
    this.#since = clock.now();
    this.#bulkhead = bulkhead(rules.inFlight, rules.waiting);
    this.#failures = new ConsecutiveBreaker(rules.failures);
    this.#circuit = circuitBreaker(
      handleWhenResult((outcome) => (outcome as Outcome<unknown>).kind === 'fault'),
      { breaker: this.#failures, halfOpenAfter: this.#byOurClock() },
    );
    this.#circuit.onReset(() => this.#close());
  }

  /** Errors: those of `work`, the signal's reason, and the guard's own. */
  async run<T>(work: (signal: AbortSignal) => Promise<T>, { signal, member }: CallOptions): Promise<T> {
    signal.throwIfAborted();
    this.#refuseUnlessClosed();
    const begun = new AbortController();
    const call = async (): Promise<Outcome<T>> => {
      begun.abort(OVER);
      signal.throwIfAborted();
      this.#refuseUnlessClosed();
      const probing = this.#circuit.state !== CircuitState.Closed;
      return this.#circuit.execute(() => this.#settle(work, { signal, member, probing }));
    };
    try {
      // An abort in the queue is noticed by cockatiel when the turn comes; the caller hears of it at once.
      const outcome = await Promise.race([this.#bulkhead.execute(call, signal), abortedBefore(begun.signal, signal)]);
      if (outcome.kind === 'done') return outcome.value;
      throw outcome.error;
    } catch (error) {
      if (error instanceof BulkheadRejectedError) throw this.#refusal('provider.busy', this.#clock.now() + BUSY_FOR);
      throw error;
    } finally {
      begun.abort(OVER);
    }
  }

  view(): GuardView {
    const { inFlight, waiting } = this.#rules;
    const state = this.#state();
    return {
      cluster: this.#cluster,
      state,
      since: this.#since,
      retryAt: state === 'open' ? this.#retryAt : null,
      inFlight: inFlight - this.#bulkhead.executionSlots,
      waiting: waiting - this.#bulkhead.queueSlots,
      failures: this.#failures.state,
      refused: this.#refused,
      openings: this.#openings,
    };
  }

  #state(): CircuitName {
    if (this.#circuit.state === CircuitState.Closed) return 'closed';
    return this.#circuit.state === CircuitState.Open && !this.#isDue() ? 'open' : 'half-open';
  }

  // A clock that was set back must not keep the circuit open until it has caught up.
  #isDue(): boolean {
    const now = this.#clock.now();
    return now >= this.#retryAt || now < this.#retryAt - this.#rules.openFor;
  }

  #refuseUnlessClosed(): void {
    const { state } = this.#circuit;
    // Cockatiel would let the others wait for what the one that tries finds out, each in a place of the bulkhead.
    if (state === CircuitState.HalfOpen) throw this.#refusal('provider.circuit-open', this.#clock.now() + PROBED_FOR);
    if (this.#state() === 'open') throw this.#refusal('provider.circuit-open', this.#retryAt);
  }

  #refusal(code: 'provider.busy' | 'provider.circuit-open', retryAt: Millis): RackstartError {
    this.#refused += 1;
    const { inFlight, waiting } = this.#rules;
    const why =
      code === 'provider.busy'
        ? `${String(inFlight)} calls are under way and ${String(waiting)} wait`
        : `it has not answered since ${new Date(this.#since).toISOString()}`;
    return new RackstartError(code, `${this.#cluster} is not called now: ${why}.`, {
      details: { cluster: this.#cluster, retryAt, retryAfter: Math.ceil((retryAt - this.#clock.now()) / SECOND) },
    });
  }

  /** What the call says of the cluster. One that says nothing is thrown, for neither counts it; as a probe it has failed. */
  async #settle<T>(work: (signal: AbortSignal) => Promise<T>, { signal, member, probing }: Call): Promise<Outcome<T>> {
    try {
      const value = await this.#withinDeadline(work, signal);
      this.#failedMembers.clear();
      return { kind: 'done', value };
    } catch (thrown) {
      if (signal.aborted && !hasCode(thrown, 'provider.timeout')) {
        if (probing) return { kind: 'fault', error: thrown, abandoned: true };
        throw thrown;
      }
      const error = asRackstartError(thrown);
      if (!hasCode(error, 'provider.timeout') && !this.#rules.isFault(error)) {
        this.#failedMembers.clear();
        return { kind: 'answered', error: thrown };
      }
      const again = member !== undefined && this.#failedMembers.has(member);
      if (again && !probing) throw thrown;
      if (member !== undefined) this.#failedMembers.add(member);
      return { kind: 'fault', error: thrown, abandoned: false };
    }
  }

  // Who is told to stop gets the rest of the deadline to do so: what still runs must not be undone yet.
  async #withinDeadline<T>(work: (signal: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T> {
    const { deadline } = this.#rules;
    const late = new AbortController();
    const settled = new AbortController();
    const hang = this.#clock.sleepUntil(this.#clock.now() + deadline, settled.signal).then(() => {
      const seconds = String(deadline / SECOND);
      const error = new RackstartError(
        'provider.timeout',
        `A call to ${this.#cluster} has not ended within ${seconds} s.`,
        {
          details: { cluster: this.#cluster },
        },
      );
      late.abort(error);
      throw error;
    });
    try {
      return await Promise.race([work(AbortSignal.any([signal, late.signal])), hang]);
    } finally {
      settled.abort(OVER);
    }
  }

  // Cockatiel compares the system's time with a duration; this one is over when our clock says so, and not before.
  #byOurClock(): IBackoff<IHalfOpenAfterBackoffContext> {
    const isDue = () => this.#isDue();
    const open = (context: IHalfOpenAfterBackoffContext) => this.#open(context);
    return {
      get duration() {
        return isDue() ? -Infinity : Infinity;
      },
      next(context) {
        open(context);
        return this;
      },
    };
  }

  #open({ result }: IHalfOpenAfterBackoffContext): void {
    const at = this.#clock.now();
    const { error, abandoned } = (result as { value: Outcome<unknown> & { kind: 'fault' } }).value;
    this.#retryAt = abandoned ? at : at + this.#rules.openFor;
    if (this.#openedAt !== undefined) return;
    this.#openedAt = at;
    this.#since = at;
    this.#openings += 1;
    this.#onTurn({ cluster: this.#cluster, to: 'open', at, error: asRackstartError(error) });
  }

  #close(): void {
    const at = this.#clock.now();
    const openedAt = this.#openedAt ?? at;
    this.#openedAt = undefined;
    this.#since = at;
    this.#onTurn({ cluster: this.#cluster, to: 'closed', at, openedAt });
  }
}

/** Until when a guard has refused a call, when that is what this error says: nothing was tried yet. */
export function refusedUntil(error: unknown): Millis | undefined {
  if (!hasCode(error, 'provider.busy') && !hasCode(error, 'provider.circuit-open')) return undefined;
  const { retryAt } = error.details;
  return typeof retryAt === 'number' ? retryAt : undefined;
}

interface Call {
  readonly signal: AbortSignal;
  readonly member: string | undefined;
  /** Whether it is the one call that an open circuit lets try. */
  readonly probing: boolean;
}

type Outcome<T> =
  | { readonly kind: 'done'; readonly value: T }
  | { readonly kind: 'answered'; readonly error: unknown }
  | { readonly kind: 'fault'; readonly error: unknown; readonly abandoned: boolean };

// Made once: an abort without a reason makes a DOMException with its stack, 45 µs each.
const OVER = new Error('the call has begun, or is over');

const BUSY_FOR: Millis = SECOND;
const PROBED_FOR: Millis = 5 * SECOND;

function abortedBefore(begun: AbortSignal, signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error), { signal: begun, once: true });
  });
}
