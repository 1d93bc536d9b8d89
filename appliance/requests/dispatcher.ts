import type { FairnessLimits } from '../../scheduler/fairness.ts';
import { Doorbell } from '../events/doorbell.ts';
import type { EventLog } from '../events/event-log.ts';
import type { Clock, Millis } from '../kernel/clock.ts';
import { SECOND } from '../kernel/clock.ts';
import { asRackstartError } from '../kernel/errors.ts';
import type { Log } from '../kernel/log.ts';
import type { Service } from '../kernel/service.ts';
import type { Sagas } from '../saga/sagas.ts';
import type { Store, Tx } from '../store/store.ts';
import { anyWaits, countInFlight, enqueue, lockTurns, nextTurns } from './queue.ts';
import { moveRequest } from './request-records.ts';
import type { MovedRequest, RequestMove } from './request-records.ts';

export interface DispatcherDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly sagas: Sagas;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Gives queued requests their turn: moves them to `allocating` and wakes their sagas, which sleep until then. It looks when
 * a request comes or makes room, and every few seconds for what other processes did; several may run on one database.
 */
export class Dispatcher implements Service {
  readonly name = 'dispatcher';
  readonly limits: FairnessLimits;
  readonly #deps: DispatcherDeps;
  readonly #period: Millis;
  readonly #bell = new Doorbell();
  #looking = true;

  constructor(deps: DispatcherDeps, limits: FairnessLimits, { period = 5 * SECOND } = {}) {
    this.#deps = deps;
    this.limits = limits;
    this.#period = period;
  }

  /** Whether it has something in hand. */
  get busy(): boolean {
    return this.#looking || this.#bell.rung;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { events, clock, log } = this.#deps;
    const silence = events.nudge(() => this.#bell.ring());
    while (!signal.aborted) {
      this.#looking = true;
      this.#bell.clear();
      try {
        await this.dispatch(signal);
      } catch (error) {
        const { code, message } = asRackstartError(error);
        log.warn({ code, reason: message }, 'queued requests wait: whose turn it is cannot be read');
      }
      this.#looking = false;
      await this.#bell.wait(clock, clock.now() + this.#period, signal);
    }
    silence();
  }

  /** Gives turns as long as there is room for somebody who waits. */
  async dispatch(signal?: AbortSignal): Promise<void> {
    const { store, log } = this.#deps;
    while (signal?.aborted !== true && (await anyWaits(store.read))) {
      // Looking first spares a transaction that would find nobody: a tenant may wait at its limit for hours.
      const { chosen, held } = await nextTurns(store.read, store.dialect, this.limits);
      if (chosen.length === 0) {
        log.debug({ held: Object.fromEntries(held) }, 'no request has a turn');
        return;
      }
      const given = await store.transaction((tx) => this.#giveTurns(tx));
      if (given === 0) return;
      log.info({ given }, 'requests have their turn');
    }
  }

  /**
   * Gives a request that is just being admitted its turn at once, where there is room and nobody waits: its saga need not sleep
   * then. Else it is false: the request is in the queue, and looked for after the commit.
   *
   * One that has its turn at once was never in the queue, so that its index holds those alone who wait.
   */
  async admit(tx: Tx, { requestId, tenantId }: { requestId: string; tenantId: string }): Promise<boolean> {
    const { store, clock } = this.#deps;
    const at = clock.now();
    const isAlone = await lockTurns(tx, store.dialect, { wait: false });
    if (isAlone && (await this.#hasRoom(tx, tenantId)) && !(await anyWaits(tx))) {
      return (await this.#move(tx, requestId, { ready_at: at, dispatched_at: at })) !== undefined;
    }
    await enqueue(tx, requestId, at);
    tx.afterCommit(() => this.#bell.ring());
    return false;
  }

  async #hasRoom(tx: Tx, tenantId: string): Promise<boolean> {
    const { all, ofTenant } = await countInFlight(tx, tenantId);
    return ofTenant < this.limits.perTenant && all < this.limits.inAll;
  }

  async #giveTurns(tx: Tx): Promise<number> {
    const { dialect } = this.#deps.store;
    await lockTurns(tx, dialect, { wait: true });
    const { chosen } = await nextTurns(tx, dialect, this.limits);
    let given = 0;
    for (const { requestId } of chosen.slice(0, BATCH)) if (await this.#giveTurn(tx, requestId)) given += 1;
    return given;
  }

  /** False when it was cancelled meanwhile. */
  async #giveTurn(tx: Tx, requestId: string): Promise<boolean> {
    const { sagas, clock } = this.#deps;
    if ((await this.#move(tx, requestId, { dispatched_at: clock.now() })) === undefined) return false;
    const { saga_id } = await tx
      .selectFrom('attempts')
      .select('saga_id')
      .where('request_id', '=', requestId)
      .executeTakeFirstOrThrow();
    await sagas.wake(tx, saga_id);
    return true;
  }

  #move(tx: Tx, requestId: string, set: RequestMove['set'] & object): Promise<MovedRequest | undefined> {
    const at = this.#deps.clock.now();
    const move = { requestId, from: 'queued', to: 'allocating', actor: 'dispatcher', at, set } as const;
    return moveRequest(tx, this.#deps, move);
  }
}

// A short transaction: others who admit leave theirs to the next look meanwhile.
const BATCH = 50;
