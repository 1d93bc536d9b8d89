import type { EventLog } from '../events/event-log.ts';
import type { Clock } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
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
    if (!(await turnNewestBack(tx, sagas, requestId, { code: 'cancelled', message }))) return;
    const about = { key: requestId, tenantId: request.tenant_id, actor, origin };
    await events.append(tx, 'service.release-asked', { ...about, data: { requestId, tenantId: request.tenant_id } });
    // One that is worked on is moved when its step has settled.
    if (requestStates[request.state].inFlight) return;
    await moveRequest(tx, { events, sagas }, { requestId, to: 'rolling-back', actor, at: clock.now() });
  });
}

/** False when the newest attempt is on its way back already, or has been; those before it are in any case. */
async function turnNewestBack(tx: Tx, sagas: Sagas, requestId: string, reason: Reason): Promise<boolean> {
  for (let looked: string | undefined; ;) {
    const attempt = (await attemptsOf(tx, requestId)).at(-1);
    if (attempt === undefined) throw new RackstartError('internal', `Request ${requestId} has no attempt.`);
    // The same as before: while it was asked to turn back, no next one was begun.
    if (attempt.id === looked) return false;
    if (await sagas.turnBack(tx, attempt.saga_id, reason)) return true;
    looked = attempt.id;
  }
}
