import type { EventLog } from '../events/event-log.ts';
import type { Clock } from '../kernel/clock.ts';
import type { Sagas } from '../saga/sagas.ts';
import type { Reason } from '../saga/step.ts';
import type { Store, Tx } from '../store/store.ts';
import { attemptsOf, findRequest, moveRequest } from './request-records.ts';
import { requestStates } from './request-states.ts';

/**
 * Ends a server, whatever state it is in: a request under way is cancelled, a completed one deprovisioned. Both take the one
 * release road, the undo of the attempt's saga. Returns at once; the road is watched like any deploy, and what nobody works
 * on, a queued request or a server that works, is seen to be on it from here on. Idempotent.
 *
 * Errors: `not-found`.
 */
export function releaseServer(
  { store, events, sagas, clock }: { store: Store; events: EventLog; sagas: Sagas; clock: Clock },
  requestId: string,
  { tenantId, actor, origin }: { tenantId?: string | undefined; actor: string; origin?: string | undefined },
): Promise<void> {
  return store.transaction(async (tx) => {
    const request = await findRequest(tx, requestId, tenantId);
    const message = request.completed_at === null ? `Cancelled by ${actor}.` : `Released by ${actor}.`;
    if (!(await turnAttemptsBack(tx, sagas, requestId, { code: 'cancelled', message }))) return;
    const about = { key: requestId, tenantId: request.tenant_id, actor, origin };
    await events.append(tx, 'service.release-asked', { ...about, data: { requestId, tenantId: request.tenant_id } });
    // One that is worked on is moved when its step has settled.
    if (requestStates[request.state].inFlight) return;
    await moveRequest(tx, { events, sagas }, { requestId, to: 'rolling-back', actor, at: clock.now() });
  });
}

/**
 * Turns back whatever of a request is not on its way back: its newest attempt, and what is tried beside it. False when
 * there is nothing.
 */
export async function turnAttemptsBack(tx: Tx, sagas: Sagas, requestId: string, reason: Reason): Promise<boolean> {
  let turned = false;
  const asked = new Set<string>();
  for (;;) {
    const attempts = await attemptsOf(tx, requestId);
    const next = attempts.findLast(({ id, ended_at }) => ended_at === null && !asked.has(id));
    // Asked for anew each time: while one was asked to turn back, it may have begun another.
    if (next === undefined) return turned;
    asked.add(next.id);
    turned = (await sagas.turnBack(tx, next.saga_id, reason)) || turned;
  }
}
