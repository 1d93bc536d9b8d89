import type { BootSession } from '../../pxe/boot-session.ts';
import { openBootSession, openWarmSession } from '../../pxe/boot-session.ts';
import type { Millis } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Ids } from '../kernel/ids.ts';
import type { BootOrderRow, BootSessionRow } from '../store/schema.ts';
import type { Tx } from '../store/store.ts';

/** What a machine shall do next. An install belongs to an attempt and names its frozen plan; the others are the fleet's. */
export type OrderRequest =
  { readonly machineId: string; readonly verb: 'inspect' | 'wipe' } | WaitRequest | InstallRequest;

export interface WaitRequest {
  readonly machineId: string;
  readonly verb: 'wait';
  /** The image that is written to its disk meanwhile, but for what would make the disk bootable. */
  readonly imageId?: string | undefined;
}

export interface InstallRequest {
  readonly machineId: string;
  readonly verb: 'install';
  readonly planDigest: string;
  readonly attemptId: string;
  readonly tenantId: string;
}

/** How a machine will be handed to its new system, and how long that may take to phone home. */
export interface HandoffPlan {
  readonly handoff: 'kexec' | 'reset';
  readonly proofWithin: Millis;
}

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
  opening: Pick<Opening, 'at' | 'windowUntil' | 'handoff' | 'watchdog'>,
): Promise<PlacedOrder> {
  await revokeOrders(tx, order.machineId, 'replaced', opening.at);
  return writeOrder(tx, ids, order, { ...opening, session: openBootSession(opening.at) });
}

/**
 * Gives a parked machine its next order, in a boot session that continues the one it waits in: that one has ended, and its
 * bearer is good for nothing but to be told of this one. By the network nobody ever gets this order: its window never opens.
 *
 * Undefined when the machine is not parked.
 */
export async function orderParked(
  tx: Tx,
  ids: Ids,
  order: InstallRequest,
  { at, handoff }: { at: Millis; handoff?: HandoffPlan },
): Promise<PlacedOrder | undefined> {
  const parked = await tx
    .updateTable('boot_sessions')
    .set({ ended_at: at, end_reason: 'ordered' })
    .where('machine_id', '=', order.machineId)
    .where('state', '=', 'parked')
    .where('ended_at', 'is', null)
    .returning(['id', 'order_id', 'ramdisk', 'watchdog'])
    .executeTakeFirst();
  if (parked === undefined) return undefined;
  if (!(await consumeOrder(tx, parked.order_id, at))) {
    throw new RackstartError('internal', `Machine ${order.machineId} is parked without an order to wait.`);
  }
  const { id: continues, ramdisk, watchdog } = parked;
  const goesOn = { session: openWarmSession(at), continues, ramdisk, watchdog };
  return writeOrder(tx, ids, order, { at, windowUntil: at, ...goesOn, ...(handoff && { handoff }) });
}

/**
 * Takes back an order that a parked machine has not taken. False: it has, and works on it; or the order was taken back before.
 */
export async function withdrawOrder(tx: Tx, session: BootSessionRow, at: Millis): Promise<boolean> {
  const { numUpdatedRows } = await tx
    .updateTable('boot_sessions')
    .set({ ended_at: at, end_reason: 'not taken' })
    .where('id', '=', session.id)
    .where('nonce_hash', 'is', null)
    .where('ended_at', 'is', null)
    .executeTakeFirst();
  if (numUpdatedRows !== 1n) return false;
  await tx
    .updateTable('boot_orders')
    .set({ state: 'revoked', ended_at: at })
    .where('id', '=', session.order_id)
    .where('state', '=', 'pending')
    .execute();
  return true;
}

interface Opening {
  readonly at: Millis;
  readonly windowUntil: Millis;
  readonly session: BootSession;
  readonly continues?: string;
  readonly ramdisk?: string | null;
  readonly handoff?: HandoffPlan;
  readonly watchdog?: Millis | null;
}

async function writeOrder(
  tx: Tx,
  ids: Ids,
  order: OrderRequest,
  { at, windowUntil, session, continues, ramdisk, handoff, watchdog }: Opening,
): Promise<PlacedOrder> {
  const { machineId, verb } = order;
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
  await tx
    .insertInto('boot_orders')
    .values({
      id: orderId,
      machine_id: machineId,
      generation,
      verb,
      plan_digest: verb === 'install' ? order.planDigest : null,
      image_id: verb === 'wait' ? (order.imageId ?? null) : null,
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
      // A machine that waits has its power.
      powered_at: continues === undefined ? null : at,
      nonce_hash: null,
      claimed_at: null,
      seen_at: at,
      moved_at: at,
      moved_bytes: 0,
      handoff: handoff?.handoff ?? null,
      proof_within: handoff?.proofWithin ?? null,
      proof_due: null,
      rescued_at: null,
      watchdog: watchdog ?? null,
      ended_at: null,
      end_reason: null,
      continues: continues ?? null,
      ramdisk: ramdisk ?? null,
      stages: JSON.stringify(session.stages),
    })
    .execute();
  return { orderId, sessionId, generation };
}

/**
 * Binds a boot to its first claimant, whose claim also proves that the power came, if we crashed before that was recorded.
 * False: it has one already, or is over.
 */
export async function bindClaimant(
  tx: Tx,
  sessionId: string,
  { nonceHash, ramdisk }: { nonceHash: string; ramdisk: string | null },
  at: Millis,
): Promise<boolean> {
  const { numUpdatedRows } = await tx
    .updateTable('boot_sessions')
    .set((eb) => ({
      nonce_hash: nonceHash,
      ramdisk,
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
  reason: 'replaced' | 'revoked' | 'cut-off' | 'silent',
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
