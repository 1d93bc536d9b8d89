import type { Mac } from '../../pxe/boot-client.ts';
import type { PhoneHome } from '../../pxe/boot-plan.ts';
import type { BootEvent, BootSession, BootStages, BootState } from '../../pxe/boot-session.ts';
import { advanceBoot } from '../../pxe/boot-session.ts';
import type { Millis } from '../kernel/clock.ts';
import type { BootOrderRow, BootSessionRow } from '../store/schema.ts';
import type { Reader, Tx } from '../store/store.ts';

/** A boot session and the order it carries out. */
export type Boot = BootSessionRow & { readonly order: BootOrderRow };

export async function bootOf(read: Reader, sessionId: string): Promise<Boot | undefined> {
  const session = await read.selectFrom('boot_sessions').selectAll().where('id', '=', sessionId).executeTakeFirst();
  return session && withOrder(read, session);
}

/** The machine's session that has not ended: there is at most one. */
export async function openBoot(read: Reader, machineId: string): Promise<Boot | undefined> {
  const session = await read
    .selectFrom('boot_sessions')
    .selectAll()
    .where('machine_id', '=', machineId)
    .where('ended_at', 'is', null)
    .executeTakeFirst();
  return session && withOrder(read, session);
}

export async function openBootOf(read: Reader, mac: Mac): Promise<Boot | undefined> {
  const nic = await read.selectFrom('machine_nics').select('machine_id').where('mac', '=', mac).executeTakeFirst();
  return nic && openBoot(read, nic.machine_id);
}

/** Whether tokens of this boot are worth anything now. */
export function isOpen({ ended_at, window_until }: BootSessionRow, at: Millis): boolean {
  return ended_at === null && at < window_until;
}

/**
 * What was seen of a boot, in its session; any event is a sign of life. One that the session did not expect is kept on the
 * timeline and changes nothing else.
 */
export async function recordBoot(tx: Tx, sessionId: string, event: BootEvent, at: Millis): Promise<void> {
  const row = await tx.selectFrom('boot_sessions').selectAll().where('id', '=', sessionId).executeTakeFirst();
  if (row === undefined) return;
  const { session, unexpected } = advanceBoot(sessionOf(row), event, at);
  await tx
    .updateTable('boot_sessions')
    .set({ state: session.state, stages: JSON.stringify(session.stages), seen_at: at })
    .where('id', '=', sessionId)
    .execute();
  if (!unexpected) return;
  await tx
    .insertInto('timeline')
    .values({
      id: `unexpected_${sessionId}_${String(at)}_${event.type}`,
      machine_id: row.machine_id,
      session_id: sessionId,
      at,
      source: 'alert',
      name: 'unexpected',
      detail: JSON.stringify({ state: row.state, event }),
    })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
}

/** The server that a boot installed has phoned home. */
export async function recordPhoneHome(
  tx: Tx,
  attemptId: string,
  { uptime, started }: PhoneHome,
  at: Millis,
): Promise<void> {
  const session = await lastBootOf(tx, attemptId);
  if (session !== undefined) await recordBoot(tx, session, { type: 'phone-home', uptime, started }, at);
}

/** The server works: its boot is over. */
export async function concludeBoot(tx: Tx, attemptId: string, at: Millis): Promise<void> {
  const session = await lastBootOf(tx, attemptId);
  if (session === undefined) return;
  await recordBoot(tx, session, { type: 'verified' }, at);
  await tx
    .updateTable('boot_sessions')
    .set({ ended_at: at, end_reason: 'done' })
    .where('id', '=', session)
    .where('ended_at', 'is', null)
    .execute();
}

export function sessionOf(row: BootSessionRow): BootSession {
  return {
    state: row.state as BootState,
    openedAt: row.opened_at,
    stages: JSON.parse(row.stages) as BootStages,
    ...(row.end_reason === null ? {} : { reason: row.end_reason }),
  };
}

async function lastBootOf(tx: Tx, attemptId: string): Promise<string | undefined> {
  const session = await tx
    .selectFrom('boot_sessions')
    .innerJoin('boot_orders', 'boot_orders.id', 'boot_sessions.order_id')
    .select('boot_sessions.id')
    .where('boot_orders.attempt_id', '=', attemptId)
    .orderBy('boot_sessions.generation', 'desc')
    .limit(1)
    .executeTakeFirst();
  return session?.id;
}

async function withOrder(read: Reader, session: BootSessionRow): Promise<Boot> {
  const order = await read
    .selectFrom('boot_orders')
    .selectAll()
    .where('id', '=', session.order_id)
    .executeTakeFirstOrThrow();
  return { ...session, order };
}
