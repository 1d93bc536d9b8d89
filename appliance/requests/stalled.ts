import type { EventLog } from '../events/event-log.ts';
import type { Clock, Millis } from '../kernel/clock.ts';
import { MINUTE } from '../kernel/clock.ts';
import type { Log } from '../kernel/log.ts';
import { periodically } from '../kernel/periodically.ts';
import type { Service } from '../kernel/service.ts';
import type { Sagas } from '../saga/sagas.ts';
import type { Store, Tx } from '../store/store.ts';
import { awaitsInput } from './awaiting-input.ts';
import { turnAttemptsBack } from './release.ts';
import { clockedStates } from './request-states.ts';
import type { RequestState } from './request-states.ts';

export interface StalledRequestsDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly sagas: Sagas;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Ends a request in which nothing has happened for `limit`, whatever else should have noticed: no change of its state, no
 * sign of life from the machine that boots for it. One that is being rolled back already has nowhere else to go: people are
 * told, and told again after as long.
 */
export class StalledRequests implements Service {
  readonly name = 'stalled-requests';
  readonly #deps: StalledRequestsDeps;
  readonly #limit: Millis;

  constructor(deps: StalledRequestsDeps, limit: Millis) {
    this.#deps = deps;
    this.#limit = limit;
  }

  run(signal: AbortSignal): Promise<void> {
    const failure = 'stalled requests are looked for again in a minute';
    return periodically(() => this.look(), { ...this.#deps, every: MINUTE, failure }, signal);
  }

  async look(): Promise<void> {
    const { store, clock } = this.#deps;
    const since = clock.now() - this.#limit;
    const stalled = await store.read
      .selectFrom('requests')
      .select(['id', 'tenant_id as tenantId', 'state'])
      .where('requests.ended_at', 'is', null)
      .where('requests.state', 'in', clockedStates)
      .where((eb) => eb.not(awaitsInput))
      .where('requests.updated_at', '<=', since)
      .where((eb) => eb.or([eb('requests.progress_at', 'is', null), eb('requests.progress_at', '<=', since)]))
      .where((eb) =>
        eb.not(
          eb.exists(
            eb
              .selectFrom('attempts')
              .innerJoin('boot_orders', 'boot_orders.attempt_id', 'attempts.id')
              .innerJoin('boot_sessions', 'boot_sessions.order_id', 'boot_orders.id')
              .select('boot_sessions.id')
              .whereRef('attempts.request_id', '=', 'requests.id')
              .where('attempts.ended_at', 'is', null)
              .where('boot_sessions.seen_at', '>', since),
          ),
        ),
      )
      .execute();
    for (const request of stalled) await store.transaction((tx) => this.#end(tx, request, since));
  }

  async #end(tx: Tx, { id, tenantId, state }: Stalled, since: Millis): Promise<void> {
    const { events, sagas, clock } = this.#deps;
    // Of several processes that look, one goes on from here; what moved meanwhile is left alone.
    const { numUpdatedRows } = await tx
      .updateTable('requests')
      .set({ progress_at: clock.now() })
      .where('id', '=', id)
      .where('state', '=', state)
      .where('updated_at', '<=', since)
      .where((eb) => eb.or([eb('progress_at', 'is', null), eb('progress_at', '<=', since)]))
      .executeTakeFirst();
    if (numUpdatedRows !== 1n) return;
    const message = `Nothing has happened to it for ${String(this.#limit / MINUTE)} minutes while it was ${state}.`;
    const reason = { code: 'request.stalled', message } as const;
    if (state !== 'rolling-back' && (await turnAttemptsBack(tx, sagas, id, reason))) return;
    await events.append(tx, 'alert.raised', { key: id, tenantId, actor: 'saga', data: { subject: id, ...reason } });
  }
}

interface Stalled {
  readonly id: string;
  readonly tenantId: string;
  readonly state: RequestState;
}
