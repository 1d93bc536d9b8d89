import type { EventLog } from '../../events/event-log.ts';
import type { Millis } from '../../kernel/clock.ts';
import type { Tx } from '../../store/store.ts';

/**
 * Of attempts that are tried beside each other the first to ask has the server, and what the others hold is given back. False
 * for one of those. Where nothing is tried beside it, nothing is written.
 */
export async function isFirst(tx: Tx, events: EventLog, attemptId: string, at: Millis): Promise<boolean> {
  const rivals = await rivalsOf(tx, attemptId);
  if (rivals.length > 0) await lockRequestOf(tx, attemptId);
  const own = await tx
    .selectFrom('attempts')
    .select(['request_id as requestId', 'tenant_id as tenantId', 'outrun_at'])
    .where('id', '=', attemptId)
    .executeTakeFirstOrThrow();
  if (own.outrun_at !== null) return false;
  if (rivals.length === 0) return true;
  const { requestId, tenantId } = own;
  const outrun = await tx
    .updateTable('attempts')
    .set({ outrun_at: at })
    .where('id', 'in', rivals)
    // One that has failed meanwhile was not outrun.
    .where('outcome', '=', 'running')
    .returning('id')
    .execute();
  for (const { id } of outrun) {
    const data = { requestId, tenantId, attemptId: id, by: attemptId };
    await events.append(tx, 'provisioning.outrun', { key: requestId, actor: 'saga', data });
  }
  return true;
}

/** A rival is begun while the saga that it is to outrun is locked: one that is not seen here comes too late to be one. */
async function rivalsOf(tx: Tx, attemptId: string): Promise<string[]> {
  const rivals = await tx
    .selectFrom('attempts as own')
    .innerJoin('attempts as other', 'other.request_id', 'own.request_id')
    .select('other.id')
    .where('own.id', '=', attemptId)
    .whereRef('other.id', '<>', 'own.id')
    .where('other.outcome', '=', 'running')
    .where('other.ended_at', 'is', null)
    .execute();
  return rivals.map(({ id }) => id);
}

/** An update that changes nothing: of two that ask at once, the later sees what the earlier has written. */
async function lockRequestOf(tx: Tx, attemptId: string): Promise<void> {
  await tx
    .updateTable('requests')
    .set((eb) => ({ state: eb.ref('state') }))
    .where('id', 'in', (eb) => eb.selectFrom('attempts').select('request_id').where('id', '=', attemptId))
    .execute();
}
