import { openBootSession } from '../../pxe/boot-session.ts';
import type { Millis } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Ids } from '../kernel/ids.ts';
import type { BootOrderRow } from '../store/schema.ts';
import type { Tx } from '../store/store.ts';

/** What a machine shall do next. An install belongs to an attempt and names its frozen plan; the others are the fleet's. */
export type OrderRequest =
  | { readonly machineId: string; readonly verb: 'inspect' | 'wipe' | 'wait' }
  | {
      readonly machineId: string;
      readonly verb: 'install';
      readonly planDigest: string;
      readonly attemptId: string;
      readonly tenantId: string;
    };

export interface PlacedOrder {
  readonly orderId: string;
  readonly sessionId: string;
  readonly generation: number;
}

/**
 * Writes a machine's next order and opens the boot session in which it may be claimed until `windowUntil`. Whatever the
 * machine was told before is revoked: a late boot can never obey an old order, nor an old token buy a new one.
 */
export async function placeOrder(
  tx: Tx,
  ids: Ids,
  order: OrderRequest,
  { at, windowUntil }: { at: Millis; windowUntil: Millis },
): Promise<PlacedOrder> {
  const { machineId, verb } = order;
  await revokeOrders(tx, machineId, 'replaced', at);
  const machine = await tx
    .updateTable('machines')
    .set((eb) => ({ generation: eb('generation', '+', 1), updated_at: at }))
    .where('id', '=', machineId)
    .returning('generation')
    .executeTakeFirst();
  if (machine === undefined) throw new RackstartError('not-found', `There is no machine ${machineId}.`);
  const { generation } = machine;
  const orderId = ids.next('ord');
  const sessionId = ids.next('boot');
  const session = openBootSession(at);
  await tx
    .insertInto('boot_orders')
    .values({
      id: orderId,
      machine_id: machineId,
      generation,
      verb,
      plan_digest: verb === 'install' ? order.planDigest : null,
      attempt_id: verb === 'install' ? order.attemptId : null,
      tenant_id: verb === 'install' ? order.tenantId : null,
      state: 'pending',
      created_at: at,
      claimed_at: null,
      ended_at: null,
    })
    .execute();
  await tx
    .insertInto('boot_sessions')
    .values({
      id: sessionId,
      machine_id: machineId,
      order_id: orderId,
      generation,
      state: session.state,
      opened_at: at,
      window_until: windowUntil,
      powered_at: null,
      nonce_hash: null,
      claimed_at: null,
      seen_at: at,
      ended_at: null,
      end_reason: null,
      stages: JSON.stringify(session.stages),
    })
    .execute();
  return { orderId, sessionId, generation };
}

/**
 * Binds a boot to its first claimant, whose claim also proves that the power came, if we crashed before that was recorded.
 * False: it has one already, or is over.
 */
export async function bindClaimant(tx: Tx, sessionId: string, nonceHash: string, at: Millis): Promise<boolean> {
  const { numUpdatedRows } = await tx
    .updateTable('boot_sessions')
    .set((eb) => ({
      nonce_hash: nonceHash,
      claimed_at: at,
      powered_at: eb.fn.coalesce('powered_at', eb.val(at)),
    }))
    .where('id', '=', sessionId)
    .where('nonce_hash', 'is', null)
    .where('ended_at', 'is', null)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

/**
 * Claims an order, once. An install is consumed by its claim, before the first byte is written: a machine that reboots
 * half-way is not installed a second time by accident, and its disk counts as dirty from here on. False: it was not pending.
 */
export async function claimOrder(tx: Tx, order: BootOrderRow, at: Millis): Promise<boolean> {
  const consumed = order.verb === 'install';
  const { numUpdatedRows } = await tx
    .updateTable('boot_orders')
    .set({ state: consumed ? 'consumed' : 'claimed', claimed_at: at, ended_at: consumed ? at : null })
    .where('id', '=', order.id)
    .where('state', '=', 'pending')
    .executeTakeFirst();
  if (numUpdatedRows !== 1n) return false;
  if (consumed) await markDiskDirty(tx, order.machine_id, at);
  return true;
}

/** An order that was carried out: it can't be claimed again. False: it was revoked meanwhile. */
export async function consumeOrder(tx: Tx, orderId: string, at: Millis): Promise<boolean> {
  const { numUpdatedRows } = await tx
    .updateTable('boot_orders')
    .set({ state: 'consumed', ended_at: at })
    .where('id', '=', orderId)
    .where('state', '=', 'claimed')
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

/**
 * Takes back every order that was not carried out, and ends the machine's session, whatever became of its order: the tokens
 * are dead at once. Whoever writes both writes the session first, so that nobody waits for each other.
 */
export async function revokeOrders(
  tx: Tx,
  machineId: string,
  reason: 'replaced' | 'revoked' | 'cut-off',
  at: Millis,
): Promise<void> {
  await tx
    .updateTable('boot_sessions')
    // A boot that failed keeps its own reason, unless it is cut off: then it is not known whose failure that was.
    .set((eb) => ({
      ended_at: at,
      end_reason: reason === 'cut-off' ? reason : eb.fn.coalesce('end_reason', eb.val(reason)),
    }))
    .where('machine_id', '=', machineId)
    .where('ended_at', 'is', null)
    .execute();
  await tx
    .updateTable('boot_orders')
    .set({ state: 'revoked', ended_at: at })
    .where('machine_id', '=', machineId)
    .where('state', 'in', ['pending', 'claimed'])
    .execute();
}

export async function markDiskDirty(tx: Tx, machineId: string, at: Millis): Promise<void> {
  await tx.updateTable('machines').set({ disk_state: 'dirty', updated_at: at }).where('id', '=', machineId).execute();
}
