import type { EventLog } from '../events/event-log.ts';
import type { Millis } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Sagas } from '../saga/sagas.ts';
import type { AttemptRow, RequestRow } from '../store/schema.ts';
import type { Reader, Tx } from '../store/store.ts';
import { tellDependents } from './prerequisites.ts';
import type { RequestState } from './request-states.ts';
import { mayMove, requestStates } from './request-states.ts';

export interface RequestMove {
  readonly requestId: string;
  readonly to: RequestState;
  readonly actor: string;
  readonly at: Millis;
  /** What else becomes true with the move. */
  readonly set?: Partial<Pick<RequestRow, 'connection' | 'failure' | 'completed_at' | 'dispatched_at'>>;
}

/**
 * Moves a request and tells of it, in one transaction. A move that the table doesn't allow is refused and changes nothing:
 * false. Moving to where it stands already is no move. It ends with the move that gives its quota back; those that wait for
 * it learn what the move means to them.
 */
export async function moveRequest(
  tx: Tx,
  { events, sagas }: { readonly events: EventLog; readonly sagas: Sagas },
  move: RequestMove,
): Promise<boolean> {
  const { requestId, to, actor, at, set } = move;
  const request = await findRequest(tx, requestId);
  if (!mayMove(request.state, to)) return false;
  const { numUpdatedRows } = await tx
    .updateTable('requests')
    .set({ state: to, updated_at: at, ...set, ...(requestStates[to].holdsQuota ? {} : { ended_at: at }) })
    .where('id', '=', requestId)
    .where('state', '=', request.state)
    .executeTakeFirst();
  if (numUpdatedRows !== 1n) return false;
  await events.append(tx, 'request.state-changed', {
    key: requestId,
    tenantId: request.tenant_id,
    actor,
    data: { requestId, from: request.state, to },
  });
  await tellDependents(tx, sagas, { requestId, hostname: request.hostname, from: request.state, to, at });
  return true;
}

/** Errors: `not-found`; another tenant's request is not there either. */
export async function findRequest(read: Reader, requestId: string, tenantId?: string): Promise<RequestRow> {
  const request = await read
    .selectFrom('requests')
    .selectAll()
    .where('id', '=', requestId)
    .$if(tenantId !== undefined, (query) => query.where('tenant_id', '=', tenantId ?? ''))
    .executeTakeFirst();
  if (request === undefined) throw new RackstartError('not-found', `There is no server ${requestId}.`);
  return request;
}

/** The attempts of a request, oldest first. */
export function attemptsOf(read: Reader, requestId: string): Promise<AttemptRow[]> {
  return read.selectFrom('attempts').selectAll().where('request_id', '=', requestId).orderBy('number').execute();
}
