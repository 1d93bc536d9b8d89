import { createIds } from '../kernel/ids.ts';
import type { ManualClock } from '../kernel/manual-clock.ts';
import { placeOrder } from '../machines/boot-order.ts';
import type { Store } from '../store/store.ts';

/** A boot of this machine, which waits for its power. Returns the session's id. */
export async function bootOf(store: Store, clock: ManualClock, machineId: string): Promise<string> {
  const at = { at: clock.now(), windowUntil: clock.now() + 60_000 };
  const { sessionId } = await store.transaction((tx) =>
    placeOrder(tx, createIds(clock), { machineId, verb: 'wait' }, at),
  );
  return sessionId;
}

/** The server's attempt, as if a person had been asked to make it. */
export async function awaitedAccess(store: Store, requestId: string): Promise<string> {
  return store.transaction(async (tx) => {
    const attempts = tx.selectFrom('attempts').select(['id', 'tenant_id']).where('request_id', '=', requestId);
    const { id, tenant_id } = await attempts.executeTakeFirstOrThrow();
    const nothing = { connection: null, entered_by: null, entered_at: null };
    await tx
      .insertInto('access_entries')
      .values({ attempt_id: id, tenant_id, asked_at: 0, ...nothing })
      .execute();
    return id;
  });
}

/** The machine's inspection, as if its undo had failed. */
export async function stuckSaga(store: Store, machineId: string): Promise<{ id: string }> {
  return store.transaction(async (tx) => {
    const saga = await tx
      .updateTable('sagas')
      .set({ state: 'stuck', wake_at: null })
      .where('subject', '=', machineId)
      .returning('id')
      .executeTakeFirstOrThrow();
    const none = { tenant_id: null, output: null, recheck_at: null, forward: null, ended_at: null };
    const error = JSON.stringify({ code: 'bmc.unreachable', message: 'The BMC is dead.' });
    const step = { name: 'power-off', ordinal: 0, state: 'stuck', tries: 4, error, started_at: 0 } as const;
    await tx
      .insertInto('saga_steps')
      .values({ saga_id: saga.id, ...step, ...none })
      .execute();
    return saga;
  });
}
