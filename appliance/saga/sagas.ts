import type { Clock } from '../kernel/clock.ts';
import type { Ids } from '../kernel/ids.ts';
import { noPeers } from '../kernel/peers.ts';
import type { Peers } from '../kernel/peers.ts';
import type { Tx } from '../store/store.ts';
import * as log from './saga-log.ts';
import type { SagaDefinition } from './saga.ts';
import type { Reason } from './step.ts';

export interface StartOptions<Params> {
  subject: string;
  tenantId?: string | undefined;
  params: Params;
  /** Nothing of it starts until it is woken, or turned back; at once unless told. */
  asleep?: boolean;
}

/**
 * What others ask of sagas, each in the caller's own transaction; the runner hears of it after the commit, and so do
 * those of other processes.
 */
export class Sagas {
  readonly #clock: Clock;
  readonly #ids: Ids;
  readonly #peers: Peers;
  readonly #listeners = new Set<(sagaId: string | undefined) => void>();

  constructor(deps: { clock: Clock; ids: Ids; peers?: Peers }) {
    this.#clock = deps.clock;
    this.#ids = deps.ids;
    this.#peers = deps.peers ?? noPeers;
    this.#peers.hear(TOPIC, (sagaId) => this.#ring(sagaId));
  }

  /** The new saga's id. Its first step starts as soon as a runner hears of it, unless it is to sleep. */
  async start<Params, Deps>(
    tx: Tx,
    definition: SagaDefinition<Params, Deps>,
    { subject, tenantId, params, asleep = false }: StartOptions<Params>,
  ): Promise<string> {
    const id = this.#ids.next('saga');
    const { name, version } = definition;
    const now = this.#clock.now();
    const wakeAt = asleep ? NEVER : now;
    log.insertSaga(tx, { id, name, version, subject, tenantId, params, now, wakeAt });
    if (!asleep) this.#tell(tx, id);
    return id;
  }

  /** Lets a saga go on that sleeps. */
  async wake(tx: Tx, sagaId: string): Promise<void> {
    await log.wake(tx, [sagaId], this.#clock.now());
    this.#tell(tx, sagaId);
  }

  /**
   * Cancel and deprovision: a saga that runs or has completed shall be undone. The reason is noted; the runner turns the
   * saga back at once, or, when a step is at work, aborts its signal and lets it settle first.
   *
   * False, and nothing changes, when the saga is on its way back already, or has been: the first reason stays.
   */
  async turnBack(tx: Tx, sagaId: string, reason: Reason): Promise<boolean> {
    const noted = await log.noteReason(tx, sagaId, reason, this.#clock.now());
    if (noted) this.#tell(tx, sagaId);
    return noted;
  }

  /**
   * The parameters of a saga that goes forward, and does so until the caller's transaction ends: nothing of it is written
   * meanwhile. Undefined when it has ended, or is to turn back.
   */
  hold(tx: Tx, sagaId: string): Promise<unknown> {
    return log.hold(tx, sagaId);
  }

  /** An operator has repaired what was in the way: undo goes on with the step that failed. False when it isn't stuck. */
  retryStuck(tx: Tx, sagaId: string): Promise<boolean> {
    return this.#unstick(tx, sagaId, 'undoing');
  }

  /** An operator takes care of what is left over: undo goes on behind the step that failed. False when it isn't stuck. */
  skipStuck(tx: Tx, sagaId: string): Promise<boolean> {
    return this.#unstick(tx, sagaId, 'skipped');
  }

  /**
   * Calls `listener` with the id of a saga that wants attention, until the returned function is called; without one when
   * any of them may.
   */
  nudge(listener: (sagaId: string | undefined) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  async #unstick(tx: Tx, sagaId: string, stepState: 'undoing' | 'skipped'): Promise<boolean> {
    const unstuck = await log.unstick(tx, sagaId, stepState, this.#clock.now());
    if (unstuck) this.#tell(tx, sagaId);
    return unstuck;
  }

  #tell(tx: Tx, sagaId: string): void {
    tx.afterCommit(() => {
      this.#ring(sagaId);
      this.#peers.tell(TOPIC, sagaId);
    });
  }

  #ring(sagaId: string | undefined): void {
    for (const listener of this.#listeners) listener(sagaId);
  }
}

// Not by itself: null would be a saga that has ended.
const NEVER = Number.MAX_SAFE_INTEGER;

const TOPIC = 'sagas';
