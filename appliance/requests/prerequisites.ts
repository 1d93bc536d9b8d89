import type { Millis } from '../kernel/clock.ts';
import type { FieldError } from '../kernel/errors.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Sagas } from '../saga/sagas.ts';
import type { Reason } from '../saga/step.ts';
import type { Reader, Tx } from '../store/store.ts';
import type { RequestState } from './request-states.ts';
import { requestStates, statesThat } from './request-states.ts';

/**
 * Whether all that an order depends on is there: what is not yet may change from the end of this transaction on, not before.
 *
 * Errors: `request.invalid` for each that is not there, or another tenant's, or will not be there any more.
 */
export async function areMet(tx: Tx, tenantId: string, prerequisites: readonly string[]): Promise<boolean> {
  if (prerequisites.length === 0) return true;
  // An update that changes nothing: whoever moves one of them waits, and finds afterwards who depends on it.
  const rows = await tx
    .updateTable('requests')
    .set((eb) => ({ state: eb.ref('state') }))
    .where('tenant_id', '=', tenantId)
    .where('id', 'in', prerequisites)
    .returning(['id', 'state'])
    .execute();
  const found = new Map(rows.map(({ id, state }) => [id, requestStates[state].asPrerequisite]));
  const fields = prerequisites.flatMap((id, index): FieldError[] => {
    const field = `/dependsOn/${String(index)}`;
    if (!found.has(id)) return [{ field, message: 'There is no such server.' }];
    return found.get(id) === 'lost' ? [{ field, message: 'This server has failed or was released.' }] : [];
  });
  if (fields.length > 0)
    throw new RackstartError('request.invalid', 'The order depends on what is not there.', { fields });
  return [...found.values()].every((one) => one === 'met');
}

export async function notePrerequisites(
  tx: Tx,
  { requestId, tenantId }: { requestId: string; tenantId: string },
  prerequisites: readonly string[],
): Promise<void> {
  if (prerequisites.length === 0) return;
  const rows = prerequisites.map((id) => ({ request_id: requestId, prerequisite_id: id, tenant_id: tenantId }));
  await tx.insertInto('request_prerequisites').values(rows).execute();
}

export async function prerequisitesOf(read: Reader, requestId: string): Promise<string[]> {
  const rows = await read
    .selectFrom('request_prerequisites')
    .select('prerequisite_id')
    .where('request_id', '=', requestId)
    .orderBy('prerequisite_id')
    .execute();
  return rows.map(({ prerequisite_id }) => prerequisite_id);
}

/**
 * What a move of a request means to those that wait for it, in the transaction of that move: with the last prerequisite that is
 * completed they are ready for their turn; with the first one that is lost they are lost too, and so are, as they fail,
 * those that wait for them. Who has had its turn is left alone.
 */
export async function tellDependents(
  tx: Tx,
  sagas: Sagas,
  { requestId, hostname, from, to, at }: RequestMoved,
): Promise<void> {
  const { asPrerequisite } = requestStates[to];
  if (asPrerequisite === requestStates[from].asPrerequisite) return;
  const waiting = await lockWaiting(tx, requestId);
  if (waiting.length === 0) return;
  if (asPrerequisite === 'met') await makeReady(tx, waiting, at);
  if (asPrerequisite === 'lost') {
    const message = `It depends on ${hostname} (${requestId}), which ${lossOf(from, to)}.`;
    await loseAll(tx, sagas, waiting, { code: 'request.prerequisite-failed', message, details: { requestId } });
  }
}

function lossOf(from: RequestState, to: RequestState): string {
  if (to === 'failed') return 'failed';
  return requestStates[from].asPrerequisite === 'met' ? 'was released' : 'was cancelled';
}

interface RequestMoved {
  readonly requestId: string;
  readonly hostname: string;
  readonly from: RequestState;
  readonly to: RequestState;
  readonly at: Millis;
}

/** Locked before anybody asks what else they wait for: of two prerequisites that are completed at once, the later sees both. */
async function lockWaiting(tx: Tx, prerequisiteId: string): Promise<string[]> {
  const rows = await tx
    .updateTable('requests')
    .set((eb) => ({ ready_at: eb.ref('ready_at') }))
    .where('id', 'in', (eb) =>
      eb.selectFrom('request_prerequisites').select('request_id').where('prerequisite_id', '=', prerequisiteId),
    )
    .where('state', '=', 'queued')
    .returning('id')
    .execute();
  return rows.map(({ id }) => id);
}

async function makeReady(tx: Tx, requestIds: readonly string[], at: Millis): Promise<void> {
  await tx
    .updateTable('requests')
    .set({ ready_at: at })
    .where('id', 'in', requestIds)
    .where((eb) =>
      eb.not(
        eb.exists(
          eb
            .selectFrom('request_prerequisites')
            .innerJoin('requests as prerequisite', 'prerequisite.id', 'request_prerequisites.prerequisite_id')
            .select('prerequisite.id')
            .whereRef('request_prerequisites.request_id', '=', 'requests.id')
            .where('prerequisite.state', 'not in', metStates),
        ),
      ),
    )
    .execute();
}

const metStates = statesThat(({ asPrerequisite }) => asPrerequisite === 'met');

async function loseAll(tx: Tx, sagas: Sagas, requestIds: readonly string[], reason: Reason): Promise<void> {
  // Those that were ready have no turn any more.
  await tx.updateTable('requests').set({ ready_at: null }).where('id', 'in', requestIds).execute();
  const attempts = await tx
    .selectFrom('attempts')
    .select('saga_id')
    .where('request_id', 'in', requestIds)
    .orderBy('id')
    .execute();
  for (const { saga_id } of attempts) await sagas.turnBack(tx, saga_id, reason);
}
