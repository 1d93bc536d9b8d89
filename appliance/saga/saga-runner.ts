import { Doorbell } from '../events/doorbell.ts';
import type { Cursor, EventLog } from '../events/event-log.ts';
import { SECOND } from '../kernel/clock.ts';
import type { Clock, Millis } from '../kernel/clock.ts';
import { asRackstartError } from '../kernel/errors.ts';
import type { Log } from '../kernel/log.ts';
import type { Service } from '../kernel/service.ts';
import type { SagaRow } from '../store/schema.ts';
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
  /** The end of the log, as far as was told. */
  #last: Cursor = 0;
  /** When to look again for what is due: at once after whatever may have made something so. */
  #lookAt: Millis = -Infinity;
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
    const silences = [events.nudge((last) => this.#hear(last)), sagas.nudge((sagaId) => this.#attend(sagaId))];
    const stop = () => this.#stopDrives({ now: false });
    signal.addEventListener('abort', stop);
    const renewal = new AbortController();
    const renewing = this.#renewLeases(renewal.signal);
    while (!signal.aborted) {
      this.#looking = true;
      this.#bell.clear();
      try {
        await this.#look();
      } catch (error) {
        const { code, message } = asRackstartError(error);
        log.warn({ code, reason: message }, 'sagas rest: the store cannot be read');
        this.#lookAt = clock.now() + this.#options.period;
      }
      this.#looking = false;
      const restedAt = this.#cutOff.length > 0 ? clock.now() + CUT_OFF_REST : Infinity;
      await this.#bell.wait(clock, Math.min(this.#lookAt, restedAt), signal);
    }
    signal.removeEventListener('abort', stop);
    for (const silence of silences) silence();
    await this.#finish();
    renewal.abort();
    await renewing;
    this.#looking = false;
  }

  #hear(last: Cursor): void {
    this.#last = last;
    this.#bell.ring();
  }

  #lookAgain(): void {
    this.#lookAt = -Infinity;
    this.#bell.ring();
  }

  #attend(sagaId: string | undefined): void {
    this.#lookAgain();
    const driven = sagaId === undefined ? undefined : this.#drives.get(sagaId);
    // Should this look fail: the saga's next write, or the renewal of its lease, tells the same.
    driven?.drive.look().catch(() => undefined);
  }

  /** Most events wake nobody: what is due is looked for when somebody was woken, when told, and when the time has come. */
  async #look(): Promise<void> {
    const { clock } = this.#deps;
    if (this.#cursor === undefined) await this.#begin();
    else await this.#wakeByEvents(this.#cursor, this.#last);
    await this.#takeUpAgain();
    if (clock.now() < this.#lookAt) return;
    this.#lookAt = clock.now() + this.#options.period;
    const due = await this.#claimAll();
    // Whoever has asked for another look meanwhile gets it.
    this.#lookAt = Math.min(this.#lookAt, due);
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

  async #wakeByEvents(after: Cursor, until: Cursor): Promise<void> {
    if (until <= after) return;
    await this.#wake(await sagaLog.sagasWaitingFor(this.#deps.store.read, { after, until }));
    this.#cursor = until;
  }

  async #wake(sagaIds: readonly string[]): Promise<void> {
    if (sagaIds.length === 0) return;
    await this.#deps.store.transaction((tx) => sagaLog.wake(tx, sagaIds, this.#deps.clock.now()));
    this.#lookAt = -Infinity;
  }

  /** The leases of what the store cut off need not run out first; at a pace that does no harm should it fail again. */
  async #takeUpAgain(): Promise<void> {
    const { store, clock } = this.#deps;
    const rested = this.#cutOff.filter(({ since }) => since + CUT_OFF_REST <= clock.now());
    if (rested.length === 0) return;
    const leases = rested.map(({ lease }) => lease);
    await store.transaction((tx) => sagaLog.endLeases(tx, leases));
    this.#cutOff = this.#cutOff.filter((one) => !rested.includes(one));
    this.#lookAt = -Infinity;
  }

  /** As long as something is due and there is room for it; when the next is due. */
  async #claimAll(): Promise<Millis> {
    const { store, clock } = this.#deps;
    const { owner, lease, limit } = this.#options;
    if (this.#plans.length === 0) return Infinity;
    while (this.#drives.size < limit) {
      const now = clock.now();
      const options = { now, plans: this.#plans, except: [...this.#drives.keys()] };
      // Looking first spares a transaction that would find nothing.
      const [due = Infinity, next = Infinity] = await sagaLog.nextDue(store.read, store.dialect, options);
      if (due > now) return due;
      const claim = { ...options, owner, until: now + lease, limit: Math.min(MOST_AT_ONCE, limit - this.#drives.size) };
      const claimed = await store.transaction((tx) => sagaLog.claimDue(tx, store.dialect, claim));
      for (const row of claimed) this.#drive(row);
      // Somebody else has it, or is about to wake it.
      if (claimed.length === 0) return due;
      if (next > now) return next;
    }
    return Infinity;
  }

  #drive(row: SagaRow): void {
    const { retry, lease, sagas } = this.#options;
    const plan = sagas.find(({ definition }) => definition.name === row.name && definition.version === row.version);
    if (plan === undefined) return;
    const drive = new SagaDrive(row, plan, { ...this.#deps, retry, lease });
    const ended = drive.run().then(() => {
      this.#drives.delete(row.id);
      if (drive.cutOff) this.#cutOff.push({ lease: drive.lease, since: this.#deps.clock.now() });
      this.#lookAgain();
    });
    this.#drives.set(row.id, { drive, ended });
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

/** For more, PostgreSQL would read the whole table and sort it. */
const MOST_AT_ONCE = 20;

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
