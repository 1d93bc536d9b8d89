import { readTimeline } from '../../../pxe/timeline-records.ts';
import type { TimelineEntry } from '../../../pxe/timeline.ts';
import type { Millis } from '../../kernel/clock.ts';
import { MINUTE } from '../../kernel/clock.ts';
import { RackstartError } from '../../kernel/errors.ts';
import type { BootSessionRow } from '../../store/schema.ts';
import type { Reader } from '../../store/store.ts';
import { sessionOf } from '../boot-records.ts';
import type { BootEvidence, Failure, Printed } from './evidence.ts';

/**
 * One boot's evidence from the tables, as of `at`. What our own step met is read from where its saga has kept it, unless it is given:
 * the saga may be about to write it. At most some thousand entries, and the end of console and log.
 *
 * Error: `not-found`.
 */
export async function gatherEvidence(
  read: Reader,
  sessionId: string,
  at: Millis,
  failure?: Failure,
): Promise<BootEvidence> {
  const row = await bootRow(read, sessionId);
  if (row === undefined) throw new RackstartError('not-found', `There is no boot ${sessionId}.`);
  const session = sessionOf(row);
  const entries = await readTimeline(read, { sessionIds: [sessionId] }, MOST_ENTRIES);
  const console = await consoleOf(read, sessionId);
  return {
    machine: { name: row.name, uuid: row.smbios_uuid, address: await reservedAddress(read, row.machine_id) },
    verb: row.verb,
    state: session.state,
    openedAt: row.opened_at,
    windowUntil: row.window_until,
    poweredAt: row.powered_at ?? undefined,
    claimedAt: row.claimed_at ?? undefined,
    endedAt: row.ended_at ?? undefined,
    endReason: row.end_reason ?? undefined,
    at,
    failure: failure ?? (await keptFailure(read, row)),
    seen: entries.filter((entry) => !isLog(entry)),
    bmcBefore: await bmcBefore(read, row),
    ...console,
    log: logOf(entries),
  };
}

/** The boot that a machine, or an attempt on one, has made last. */
export async function lastBoot(
  read: Reader,
  of: { readonly attemptId: string } | { readonly machineId: string },
): Promise<string | undefined> {
  const boots = read
    .selectFrom('boot_sessions')
    .innerJoin('boot_orders', 'boot_orders.id', 'boot_sessions.order_id')
    .select('boot_sessions.id')
    .orderBy('boot_sessions.generation', 'desc')
    .limit(1);
  const last =
    'attemptId' in of
      ? boots.where('boot_orders.attempt_id', '=', of.attemptId)
      : boots.where('boot_sessions.machine_id', '=', of.machineId);
  return (await last.executeTakeFirst())?.id;
}

// A healthy boot has some 60; a flood of one machine's packets is limited where they come in.
const MOST_ENTRIES = 4_000;
const MOST_CONSOLE_PIECES = 64; // of at most 2 KiB
const LOG_TAIL = 16 * 1024;
const SHORTLY = 5 * MINUTE;
const MOST_BEFORE = 50;

function bootRow(read: Reader, sessionId: string) {
  return read
    .selectFrom('boot_sessions')
    .innerJoin('boot_orders', 'boot_orders.id', 'boot_sessions.order_id')
    .innerJoin('machines', 'machines.id', 'boot_sessions.machine_id')
    .selectAll('boot_sessions')
    .select(['boot_orders.verb', 'boot_orders.attempt_id', 'machines.name', 'machines.smbios_uuid'])
    .where('boot_sessions.id', '=', sessionId)
    .executeTakeFirst();
}

async function reservedAddress(read: Reader, machineId: string): Promise<string | undefined> {
  const reserved = await read
    .selectFrom('addresses')
    .innerJoin('machine_nics', 'machine_nics.mac', 'addresses.holder_id')
    .select('addresses.address')
    .where('addresses.holder_kind', '=', 'nic')
    .where('machine_nics.machine_id', '=', machineId)
    .executeTakeFirst();
  return reserved?.address;
}

async function bmcBefore(read: Reader, { machine_id, opened_at }: BootSessionRow): Promise<TimelineEntry[]> {
  const rows = await read
    .selectFrom('timeline')
    .select(['at', 'name', 'detail'])
    .where('machine_id', '=', machine_id)
    .where('at', '>=', opened_at - SHORTLY)
    .where('at', '<', opened_at)
    .where('source', '=', 'bmc')
    .orderBy('at', 'desc')
    .limit(MOST_BEFORE)
    .execute();
  return rows.reverse().map(({ at, name, detail }) => {
    return { at, source: 'bmc', name, detail: JSON.parse(detail) as TimelineEntry['detail'] };
  });
}

async function consoleOf(read: Reader, sessionId: string): Promise<Pick<BootEvidence, 'console' | 'listened'>> {
  const rows = await read
    .selectFrom('timeline')
    .select(['at', 'name', 'detail'])
    .where('session_id', '=', sessionId)
    .where('source', '=', 'console')
    .orderBy('at', 'desc')
    .orderBy('id', 'desc')
    .limit(MOST_CONSOLE_PIECES)
    .execute();
  const console = rows.reverse().flatMap(({ at, name, detail }): Printed[] => {
    const { text } = JSON.parse(detail) as { text?: unknown };
    return name === 'output' && typeof text === 'string' ? [{ at, text }] : [];
  });
  const names = new Set(rows.map(({ name }) => name));
  if (console.length > 0) return { console, listened: 'heard' };
  return { console, listened: names.has('absent') ? 'absent' : names.has('given-up') ? 'given-up' : 'none' };
}

/** Why the attempt, or the machine's own saga, turned back. */
async function keptFailure(
  read: Reader,
  { attempt_id, machine_id, verb, opened_at }: BootSessionRow & { attempt_id: string | null; verb: string },
): Promise<Failure | undefined> {
  if (attempt_id !== null) {
    const attempt = await read.selectFrom('attempts').select('failure').where('id', '=', attempt_id).executeTakeFirst();
    return asFailure(attempt?.failure);
  }
  const saga = await read
    .selectFrom('sagas')
    .select('reason')
    .where('subject', '=', machine_id)
    .where('name', '=', verb)
    .where('created_at', '<=', opened_at)
    .orderBy('created_at', 'desc')
    .limit(1)
    .executeTakeFirst();
  return asFailure(saga?.reason);
}

function asFailure(json: string | null | undefined): Failure | undefined {
  return json == null ? undefined : (JSON.parse(json) as Failure);
}

const isLog = ({ source, name }: TimelineEntry) => source === 'ramdisk' && name === 'log';

function logOf(entries: readonly TimelineEntry[]): string {
  const text = entries.findLast(isLog)?.detail['text'];
  return typeof text === 'string' ? text.slice(-LOG_TAIL) : '';
}
