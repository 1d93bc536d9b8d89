import type { EventLog } from '../../events/event-log.ts';
import type { Millis } from '../../kernel/clock.ts';
import { RackstartError } from '../../kernel/errors.ts';
import type { AccessEntryRow, RequestRow } from '../../store/schema.ts';
import type { Reader, Tx } from '../../store/store.ts';
import type { ServerSpec } from '../provider.ts';
import type { AccessDetails } from './access-details.ts';

/** What an operator is asked to make, and to say how it is reached. */
export interface AskedAccess extends Pick<AccessEntryRow, 'attempt_id' | 'tenant_id' | 'asked_at'> {
  readonly request: RequestRow;
}

export interface Entering {
  readonly attemptId: string;
  /** As `checkedAccess` made them. */
  readonly details: AccessDetails;
  readonly actor: string;
  readonly origin?: string;
  readonly at: Millis;
}

/** Once: an entry that is there stays as it is. */
export async function askForAccess(tx: Tx, events: EventLog, spec: ServerSpec, at: Millis): Promise<void> {
  const { attemptId, requestId, tenantId, hostname } = spec;
  const nothing = { connection: null, entered_by: null, entered_at: null };
  const { numInsertedOrUpdatedRows } = await tx
    .insertInto('access_entries')
    .values({ attempt_id: attemptId, tenant_id: tenantId, asked_at: at, ...nothing })
    .onConflict((conflict) => conflict.doNothing())
    .executeTakeFirst();
  if (numInsertedOrUpdatedRows !== 1n) return;
  const data = { requestId, tenantId, attemptId, hostname };
  await events.append(tx, 'access.asked', { key: attemptId, tenantId, actor: 'saga', data });
}

/** What nobody has entered yet, of requests that are still wanted; the oldest first. */
export async function awaitedAccess(read: Reader): Promise<AskedAccess[]> {
  const rows = await read
    .selectFrom('access_entries')
    .innerJoin('attempts', 'attempts.id', 'access_entries.attempt_id')
    .innerJoin('requests', 'requests.id', 'attempts.request_id')
    .selectAll('requests')
    .select(['access_entries.attempt_id', 'access_entries.asked_at'])
    .where('access_entries.entered_at', 'is', null)
    .where('requests.state', 'in', wanted)
    .orderBy('access_entries.asked_at')
    .orderBy('access_entries.attempt_id')
    .execute();
  return rows.map(({ attempt_id, asked_at, ...request }) => {
    return { attempt_id, asked_at, tenant_id: request.tenant_id, request };
  });
}

/**
 * The same details a second time are the same answer. Errors: `not-found` when this attempt waits for nobody,
 * `state.conflict` when others were entered before, or when it is being rolled back.
 */
export async function enterAccess(tx: Tx, events: EventLog, entering: Entering): Promise<AccessEntryRow> {
  const { attemptId, details, actor, origin, at } = entering;
  const connection = JSON.stringify(details);
  const { numUpdatedRows } = await tx
    .updateTable('access_entries')
    .set({ connection, entered_by: actor, entered_at: at })
    .where('attempt_id', '=', attemptId)
    .where('entered_at', 'is', null)
    .executeTakeFirst();
  const entry = await tx
    .selectFrom('access_entries')
    .innerJoin('attempts', 'attempts.id', 'access_entries.attempt_id')
    .innerJoin('requests', 'requests.id', 'attempts.request_id')
    .selectAll('access_entries')
    .select(['requests.id as requestId', 'requests.state'])
    .where('attempt_id', '=', attemptId)
    .executeTakeFirst();
  if (entry === undefined) throw new RackstartError('not-found', `Attempt ${attemptId} waits for nobody.`);
  const { requestId, state, ...row } = entry;
  if (numUpdatedRows !== 1n) {
    if (row.connection === connection) return row;
    throw new RackstartError('state.conflict', `Other access details were entered for attempt ${attemptId} before.`);
  }
  if (!wanted.includes(state)) {
    throw new RackstartError('state.conflict', `Server ${requestId} is ${state}: it is not wanted any more.`);
  }
  // Its clock has stood; it goes on from here.
  await tx.updateTable('requests').set({ updated_at: at }).where('id', '=', requestId).execute();
  const { tenant_id: tenantId } = row;
  const data = { requestId, tenantId, attemptId, username: details.username, addresses: [...details.addresses] };
  await events.append(tx, 'access.entered', { key: attemptId, tenantId, actor, origin, data });
  return row;
}

/** Nobody is asked any more; whoever set a server up is told that it is given back. Idempotent. */
export async function closeAccess(tx: Tx, events: EventLog, attemptId: string, actor: string): Promise<void> {
  const entry = await tx
    .selectFrom('access_entries')
    .innerJoin('attempts', 'attempts.id', 'access_entries.attempt_id')
    .innerJoin('requests', 'requests.id', 'attempts.request_id')
    .select(['requests.id as requestId', 'requests.hostname', 'access_entries.tenant_id as tenantId'])
    .select('access_entries.connection')
    .where('attempt_id', '=', attemptId)
    .executeTakeFirst();
  const { numDeletedRows } = await tx
    .deleteFrom('access_entries')
    .where('attempt_id', '=', attemptId)
    .executeTakeFirst();
  if (entry === undefined || numDeletedRows !== 1n) return;
  const { requestId, hostname, tenantId, connection } = entry;
  const addresses = connection === null ? [] : (JSON.parse(connection) as AccessDetails).addresses;
  const about = { key: attemptId, tenantId, actor };
  const data = { requestId, tenantId, attemptId, addresses: [...addresses] };
  await events.append(tx, 'access.closed', { ...about, data });
  if (connection === null) return;
  const message = `Server ${hostname} at ${addresses.join(', ')} was given back: take it back by hand.`;
  await events.append(tx, 'alert.raised', {
    ...about,
    key: requestId,
    data: { subject: requestId, code: 'access.closed', message },
  });
}

const wanted: RequestRow['state'][] = ['allocating', 'configuring', 'activating'];
