import type { Sagas } from '../saga/sagas.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Store } from '../store/store.ts';
import { attemptsOf, findRequest } from './request-records.ts';

/**
 * Ends a server, whatever state it is in: a request under way is cancelled, a completed one deprovisioned. Both take the one
 * release road, the undo of the attempt's saga. Returns at once; the road is watched like any deploy. Idempotent.
 *
 * Errors: `not-found`.
 */
export function releaseServer(
  deps: { store: Store; sagas: Sagas },
  requestId: string,
  { tenantId, actor }: { tenantId?: string; actor: string },
): Promise<void> {
  return deps.store.transaction(async (tx) => {
    const request = await findRequest(tx, requestId, tenantId);
    const attempt = (await attemptsOf(tx, requestId)).at(-1);
    if (attempt === undefined) throw new RackstartError('internal', `Request ${requestId} has no attempt.`);
    const message = request.completed_at === null ? `Cancelled by ${actor}.` : `Released by ${actor}.`;
    await deps.sagas.turnBack(tx, attempt.saga_id, { code: 'cancelled', message });
  });
}
