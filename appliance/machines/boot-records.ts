import type { Mac } from '../../pxe/boot-client.ts';
import type { PhoneHome, Report } from '../../pxe/boot-plan.ts';
import type { BootSession, BootStages } from '../../pxe/boot-session.ts';
import { advanceBoot } from '../../pxe/boot-session.ts';
import type { BootEvent, BootState } from '../../pxe/boot-states.ts';
import type { TimelineEntry } from '../../pxe/timeline.ts';
import type { Millis } from '../kernel/clock.ts';
import type { AgentRow, BootOrderRow, BootSessionRow } from '../store/schema.ts';
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

/** What was ordered of a machine that waited in this boot. */
export async function continuationOf(read: Reader, sessionId: string): Promise<Boot | undefined> {
  const session = await read
    .selectFrom('boot_sessions')
    .selectAll()
    .where('continues', '=', sessionId)
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

/** What an event meant to a boot: `unchanged` when it was expected and told nothing new, `over` when the boot had ended before. */
export type Recorded = 'advanced' | 'unchanged' | 'unexpected' | 'over';

/**
 * What was seen of a boot, in its session; any event is a sign of life. One that the session did not expect is kept on the
 * timeline and changes nothing else; a boot that is over takes none.
 */
export async function recordBoot(tx: Tx, sessionId: string, event: BootEvent, at: Millis): Promise<Recorded> {
  // Writing first locks the row: two events of one boot at the same time are recorded one after the other.
  const row = await tx
    .updateTable('boot_sessions')
    .set({ seen_at: at })
    .where('id', '=', sessionId)
    .where('ended_at', 'is', null)
    .returningAll()
    .executeTakeFirst();
  if (row === undefined) return 'over';
  const { session, unexpected } = advanceBoot(sessionOf(row), event, at);
  if (unexpected) {
    await noteOddity(tx, row, 'unexpected', event, at);
    return 'unexpected';
  }
  const stages = JSON.stringify(session.stages);
  const bytes = session.state === row.state ? row.moved_bytes : 0;
  const moved = { moved_at: at, moved_bytes: Math.max(bytes, writtenBytes(event)) };
  const hasMoved = session.state !== row.state || moved.moved_bytes > bytes;
  if (!hasMoved && stages === row.stages) return 'unchanged';
  await tx
    .updateTable('boot_sessions')
    .set({ state: session.state, stages, end_reason: session.reason ?? null, ...(hasMoved ? moved : {}) })
    .where('id', '=', sessionId)
    .execute();
  return 'advanced';
}

// A machine that says again and again that it writes, and how much it has written does not grow, stands still.
function writtenBytes(event: BootEvent): number {
  if (event.type !== 'report' || event.stage !== 'image' || event.status !== 'progress') return 0;
  const bytes = Number(event.facts['bytes']);
  return Number.isSafeInteger(bytes) ? bytes : 0;
}

/** A report that came for a boot which is over, or with another generation. */
export function noteStale(tx: Tx, session: BootSessionRow, report: Report, at: Millis): Promise<void> {
  return noteOddity(tx, session, 'stale', { type: 'report', ...report }, at);
}

// The first of each kind: a machine that repeats itself for ever fills no table.
async function noteOddity(
  tx: Tx,
  { id, machine_id, state }: BootSessionRow,
  name: 'unexpected' | 'stale',
  event: BootEvent,
  at: Millis,
): Promise<void> {
  const kind = event.type === 'report' ? `${event.stage}-${event.status}` : event.type;
  await tx
    .insertInto('timeline')
    .values({
      id: `${name}_${id}_${kind}`,
      machine_id,
      session_id: id,
      at,
      source: 'alert',
      name,
      detail: JSON.stringify({ state, event }),
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
  if (session !== undefined) await recordBoot(tx, session.id, { type: 'phone-home', uptime, started }, at);
}

/** What an attempt's server said, beside the packets and commands of the boot that installed it. */
export async function tellTimeline(
  tx: Tx,
  { attempt_id, machine_id }: Pick<AgentRow, 'attempt_id' | 'machine_id'>,
  { at, source, name, detail }: TimelineEntry,
): Promise<void> {
  const session = await lastBootOf(tx, attempt_id);
  await tx
    .insertInto('timeline')
    .values({
      id: `${attempt_id}_${name}`,
      machine_id,
      session_id: session?.id ?? null,
      at,
      source,
      name,
      detail: JSON.stringify(detail),
    })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
}

/** The server works: its boot is over. False, and nothing changes, when it was ended before, by somebody else's claim. */
export async function concludeBoot(tx: Tx, attemptId: string, at: Millis): Promise<boolean> {
  const session = await lastBootOf(tx, attemptId);
  if (session === undefined || (await recordBoot(tx, session.id, { type: 'verified' }, at)) === 'over') return false;
  await tx
    .updateTable('boot_sessions')
    .set({ ended_at: at, end_reason: 'done' })
    .where('id', '=', session.id)
    .execute();
  return true;
}

export function sessionOf(row: BootSessionRow): BootSession {
  return {
    state: row.state as BootState,
    openedAt: row.opened_at,
    stages: JSON.parse(row.stages) as BootStages,
    ...(row.end_reason === null ? {} : { reason: row.end_reason }),
  };
}

/** The boot by which an attempt's server was installed last. */
export function lastBootOf(read: Reader, attemptId: string): Promise<BootSessionRow | undefined> {
  return read
    .selectFrom('boot_sessions')
    .innerJoin('boot_orders', 'boot_orders.id', 'boot_sessions.order_id')
    .selectAll('boot_sessions')
    .where('boot_orders.attempt_id', '=', attemptId)
    .orderBy('boot_sessions.generation', 'desc')
    .limit(1)
    .executeTakeFirst();
}

async function withOrder(read: Reader, session: BootSessionRow): Promise<Boot> {
  const order = await read
    .selectFrom('boot_orders')
    .selectAll()
    .where('id', '=', session.order_id)
    .executeTakeFirstOrThrow();
  return { ...session, order };
}
