import { Doorbell } from '../events/doorbell.ts';
import type { Cursor, EventLog, EventRecord } from '../events/event-log.ts';
import { SECOND } from '../kernel/clock.ts';
import type { Clock, Millis } from '../kernel/clock.ts';
import { asRackstartError } from '../kernel/errors.ts';
import type { Log } from '../kernel/log.ts';
import type { Service } from '../kernel/service.ts';
import type { Store } from '../store/store.ts';
import { exponentialRetry } from './retry.ts';
import type { RetryPolicy } from './retry.ts';
import { SagaDrive } from './saga-drive.ts';
import * as sagaLog from './saga-log.ts';
import type { BoundSaga } from './saga.ts';
import type { Sagas } from './sagas.ts';

export interface SagaRunnerOptions {
  /** Names this process in leases, for people: what is right rests on the epoch alone. */
  owner: string;
  /** Every version of every saga that may still be under way. */
  sagas: readonly BoundSaga[];
  /** How many sagas it works on at once; 100. */
  limit?: number;
  /** How long a lease holds without being renewed, and so how late the sagas of a dead owner go on; 30 s. */
  lease?: Millis;
  /** How often it looks unasked for what other processes have changed; 5 s. */
  period?: Millis;
  /** How long running steps may go on after the signal to end; 30 s. */
  grace?: Millis;
  /** 3 retries, after 5, 10 and 20 s. */
  retry?: RetryPolicy;
  /** No other process runs sagas on this database: leases found at the start are dead and taken at once. */
  soleOwner?: boolean;
}

/**
 * Runs sagas: leases those that are due and drives each as far as it goes. Recovery is the normal path: a claimed saga is
 * read from its log, whether it slept a minute or its owner was killed.
 */
export class SagaRunner implements Service {
  readonly name = 'saga-runner';
  readonly #deps: { store: Store; events: EventLog; sagas: Sagas; clock: Clock; log: Log };
  readonly #options: Required<SagaRunnerOptions>;
  readonly #plans: readonly { name: string; version: number }[];
  readonly #bell = new Doorbell();
  readonly #drives = new Map<string, { drive: SagaDrive; ended: Promise<void> }>();
  /** What was under way when the store went away, and since when it rests. */
  #cutOff: { lease: sagaLog.Lease; since: Millis }[] = [];
  /** Up to where waits have been woken; undefined before the start. */
  #cursor: Cursor | undefined;
  #looking = true;

  constructor(
    deps: { store: Store; events: EventLog; sagas: Sagas; clock: Clock; log: Log },
    options: SagaRunnerOptions,
  ) {
    this.#deps = deps;
    const defaults = { limit: 100, lease: 30 * SECOND, period: 5 * SECOND, grace: 30 * SECOND, soleOwner: false };
    this.#options = { ...defaults, retry: exponentialRetry(3), ...options };
    this.#plans = options.sagas.map(({ definition: { name, version } }) => ({ name, version }));
  }

  /** Whether it has something in hand: false while every saga sleeps and so does the runner. */
  get busy(): boolean {
    return this.#looking || this.#bell.rung || this.#drives.size > 0;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { events, sagas, clock, log } = this.#deps;
    const silences = [events.nudge(() => this.#bell.ring()), sagas.nudge((sagaId) => this.#attend(sagaId))];
    const stop = () => this.#stopDrives({ now: false });
    signal.addEventListener('abort', stop);
    const renewal = new AbortController();
    const renewing = this.#renewLeases(renewal.signal);
    while (!signal.aborted) {
      this.#looking = true;
      this.#bell.clear();
      let wakeAt = clock.now() + (this.#cutOff.length > 0 ? CUT_OFF_REST : this.#options.period);
      try {
        await this.#look();
        if (this.#drives.size < this.#options.limit) wakeAt = Math.min(wakeAt, await this.#nextDue());
      } catch (error) {
        const { code, message } = asRackstartError(error);
        log.warn({ code, reason: message }, 'sagas rest: the store cannot be read');
      }
      this.#looking = false;
      await this.#bell.wait(clock, wakeAt, signal);
    }
    signal.removeEventListener('abort', stop);
    for (const silence of silences) silence();
    await this.#finish();
    renewal.abort();
    await renewing;
    this.#looking = false;
  }

  #attend(sagaId: string | undefined): void {
    this.#bell.ring();
    const driven = sagaId === undefined ? undefined : this.#drives.get(sagaId);
    // Should this look fail: the saga's next write, or the renewal of its lease, tells the same.
    driven?.drive.look().catch(() => undefined);
  }

  async #look(): Promise<void> {
    if (this.#cursor === undefined) await this.#begin();
    else await this.#wakeByEvents(this.#cursor);
    await this.#takeUpAgain();
    await this.#claim();
  }

  async #begin(): Promise<void> {
    const { store, events, log } = this.#deps;
    if (this.#options.soleOwner) await store.transaction(sagaLog.freeAllLeases);
    for (const { name, version } of await sagaLog.plansInUse(store.read)) {
      const known = this.#plans.some((plan) => plan.name === name && plan.version === version);
      if (!known) log.error({ name, version }, 'unfinished sagas of a plan that this program does not know');
    }
    // The position first: what comes between the two is read twice, not missed.
    const position = await events.position();
    await this.#wake((await sagaLog.pastWaits(store.read)).map(({ saga_id }) => saga_id));
    this.#cursor = position;
  }

  async #wakeByEvents(from: Cursor): Promise<void> {
    const { store, events } = this.#deps;
    for (let cursor = from; ;) {
      const batch = await events.read(cursor, EVENT_BATCH);
      const last = batch.at(-1);
      if (last === undefined) return;
      await this.#wake(await sagaLog.sagasWaitingFor(store.read, latest(batch)));
      cursor = last.position;
      this.#cursor = cursor;
      // What came meanwhile rings again.
      if (batch.length < EVENT_BATCH) return;
    }
  }

  async #wake(sagaIds: readonly string[]): Promise<void> {
    if (sagaIds.length === 0) return;
    await this.#deps.store.transaction((tx) => sagaLog.wake(tx, sagaIds, this.#deps.clock.now()));
  }

  /** The leases of what the store cut off need not run out first; at a pace that does no harm should it fail again. */
  async #takeUpAgain(): Promise<void> {
    const { store, clock } = this.#deps;
    const rested = this.#cutOff.filter(({ since }) => since + CUT_OFF_REST <= clock.now());
    if (rested.length === 0) return;
    const leases = rested.map(({ lease }) => lease);
    await store.transaction((tx) => sagaLog.endLeases(tx, leases));
    this.#cutOff = this.#cutOff.filter((one) => !rested.includes(one));
  }

  async #claim(): Promise<void> {
    const { store, clock } = this.#deps;
    const { owner, lease, limit } = this.#options;
    const now = clock.now();
    const claim = {
      owner,
      now,
      until: now + lease,
      limit: limit - this.#drives.size,
      plans: this.#plans,
      except: [...this.#drives.keys()],
    };
    if (claim.limit <= 0 || this.#plans.length === 0) return;
    // Looking first spares a transaction that would find nothing.
    if (!(await sagaLog.anyDue(store.read, claim))) return;
    const skipLocked = store.dialect === 'postgres';
    for (const row of await store.transaction((tx) => sagaLog.claimDue(tx, claim, { skipLocked }))) {
      const plan = this.#options.sagas.find(
        ({ definition }) => definition.name === row.name && definition.version === row.version,
      );
      if (plan === undefined) continue;
      const drive = new SagaDrive(row, plan, { ...this.#deps, retry: this.#options.retry, lease });
      const ended = drive.run().then(() => {
        this.#drives.delete(row.id);
        if (drive.cutOff) this.#cutOff.push({ lease: drive.lease, since: clock.now() });
        this.#bell.ring();
      });
      this.#drives.set(row.id, { drive, ended });
    }
  }

  async #nextDue(): Promise<Millis> {
    if (this.#plans.length === 0) return Infinity;
    return (await sagaLog.nextDue(this.#deps.store.read, this.#plans)) ?? Infinity;
  }

  async #renewLeases(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#deps;
    while (!signal.aborted) {
      const wakeAt = clock.now() + this.#options.lease / 3;
      await clock.sleepUntil(wakeAt, signal).catch(() => undefined);
      // Late, as after a standstill of this process: others may act by now, and who first asks whether they do acts meanwhile.
      if (clock.now() > wakeAt) this.#loseExpired();
      const drives = [...this.#drives.values()].map(({ drive }) => drive).filter(({ isLost }) => !isLost);
      if (drives.length === 0) continue;
      try {
        await this.#renew(drives);
      } catch (error) {
        const { code, message } = asRackstartError(error);
        log.warn({ code, reason: message }, 'leases were not renewed');
        this.#loseExpired();
      }
    }
  }

  #loseExpired(): void {
    const now = this.#deps.clock.now();
    for (const { drive } of this.#drives.values()) if (drive.leaseUntil <= now) drive.lose();
  }

  async #renew(drives: readonly SagaDrive[]): Promise<void> {
    const until = this.#deps.clock.now() + this.#options.lease;
    const leases = drives.map(({ lease }) => lease);
    const renewed = await this.#deps.store.transaction((tx) => sagaLog.renewLeases(tx, leases, until));
    for (const drive of drives) {
      const row = renewed.find(({ id }) => id === drive.lease.sagaId);
      // Or its own last write has given the row back meanwhile: it has nothing left to lose.
      if (row === undefined) {
        drive.lose();
        continue;
      }
      drive.leaseUntil = until;
      if (row.reason !== null) await drive.look();
    }
  }

  #stopDrives(how: { now: boolean }): void {
    for (const { drive } of this.#drives.values()) drive.stop(how);
  }

  /** Lets running steps end within the grace; the lease of one that doesn't even stop when told is left to run out. */
  async #finish(): Promise<void> {
    const { clock, log } = this.#deps;
    this.#stopDrives({ now: false });
    const ended = Promise.all([...this.#drives.values()].map((one) => one.ended));
    if (await within(ended, clock, this.#options.grace)) return;
    this.#stopDrives({ now: true });
    if (await within(ended, clock, SECOND)) return;
    log.warn({ sagas: [...this.#drives.keys()] }, 'steps did not end; their sagas go on when their leases run out');
  }
}

const CUT_OFF_REST = 2 * SECOND;

// Each event is a term of one condition; SQLite takes at most 1,000 (SQLITE_MAX_EXPR_DEPTH).
const EVENT_BATCH = 200;

/** The last event of each type and key. */
function latest(events: readonly EventRecord[]): EventRecord[] {
  return [...new Map(events.map((event) => [`${event.type} ${event.key}`, event])).values()];
}

async function within(work: Promise<unknown>, clock: Clock, duration: Millis): Promise<boolean> {
  const over = new AbortController();
  const late = clock.sleepUntil(clock.now() + duration, over.signal).then(
    () => false,
    () => true,
  );
  const inTime = await Promise.race([work.then(() => true), late]);
  over.abort();
  return inTime;
}
