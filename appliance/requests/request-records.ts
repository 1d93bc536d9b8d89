import type { EventLog } from '../events/event-log.ts';
import type { Millis } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Sagas } from '../saga/sagas.ts';
import type { AttemptRow, RequestRow } from '../store/schema.ts';
import type { Reader, Tx } from '../store/store.ts';
import { tellDependents } from './prerequisites.ts';
import type { RequestState } from './request-states.ts';
import { mayMove, requestStates, statesThat } from './request-states.ts';

export interface RequestMove {
  readonly requestId: string;
  /** Where the caller knows it to stand: from elsewhere it is not moved. */
  readonly from?: RequestState;
  readonly to: RequestState;
  readonly actor: string;
  readonly at: Millis;
  /** What else becomes true with the move. */
  readonly set?: Partial<Pick<RequestRow, 'connection' | 'failure' | 'completed_at' | 'ready_at' | 'dispatched_at'>>;
}

/**
 * Moves a request and tells of it, in one transaction. A move that the table doesn't allow is refused and changes nothing:
 * undefined. Moving to where it stands already is no move. It ends with the move that gives its quota back; those that wait
 * for it learn what the move means to them.
 */
export async function moveRequest(
  tx: Tx,
  { events, sagas }: { readonly events: EventLog; readonly sagas: Sagas },
  { requestId, from: known, to, actor, at, set }: RequestMove,
): Promise<MovedRequest | undefined> {
  const from = known ?? (await stateBefore(tx, requestId, to));
  if (from === undefined || !mayMove(from, to)) return undefined;
  const moved = await tx
    .updateTable('requests')
    .set({ state: to, updated_at: at, ...set, ...(requestStates[to].holdsQuota ? {} : { ended_at: at }) })
    .where('id', '=', requestId)
    .where('state', '=', from)
    .returning(['tenant_id', 'hostname', 'created_at'])
    .executeTakeFirst();
  if (moved === undefined) return undefined;
  await events.append(tx, 'request.state-changed', {
    key: requestId,
    tenantId: moved.tenant_id,
    actor,
    data: { requestId, from, to },
  });
  await tellDependents(tx, sagas, { requestId, hostname: moved.hostname, from, to, at });
  return moved;
}

export type MovedRequest = Pick<RequestRow, 'tenant_id' | 'hostname' | 'created_at'>;

/** Where it moves from, if it may; nobody has to look where one state alone leads there. */
async function stateBefore(tx: Tx, requestId: string, to: RequestState): Promise<RequestState | undefined> {
  const [only, ...others] = statesThat(({ next }) => next.includes(to));
  if (others.length === 0) return only;
  const { state } = await findRequest(tx, requestId);
  return mayMove(state, to) ? state : undefined;
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

/** The same, and nobody else writes it until the transaction ends. */
export function lockRequest(tx: Tx, requestId: string): Promise<RequestRow> {
  return tx
    .updateTable('requests')
    .set((eb) => ({ state: eb.ref('state') }))
    .where('id', '=', requestId)
    .returningAll()
    .executeTakeFirstOrThrow();
}

/** The attempts of a request, oldest first. */
export function attemptsOf(read: Reader, requestId: string): Promise<AttemptRow[]> {
  return read.selectFrom('attempts').selectAll().where('request_id', '=', requestId).orderBy('number').execute();
}
