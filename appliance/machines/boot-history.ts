import type { BootStages } from '../../pxe/boot-session.ts';
import { stagesWithTimeline } from '../../pxe/boot-session.ts';
import type { TimelineRecord } from '../../pxe/timeline-records.ts';
import { readTimeline } from '../../pxe/timeline-records.ts';
import type { Millis } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { BootOrderRow, BootSessionRow, MachineRow } from '../store/schema.ts';
import type { Reader } from '../store/store.ts';
import { sessionOf } from './boot-records.ts';

/** One boot of a machine: what it was ordered to do, and how that went. */
export interface BootSummary {
  readonly session: BootSessionRow;
  readonly verb: BootOrderRow['verb'];
  readonly attemptId: string | null;
  readonly machine: Pick<MachineRow, 'id' | 'name' | 'firmware' | 'vendor' | 'model'>;
}

export interface BootStageTimes {
  readonly name: string;
  readonly startedAt: Millis;
  /** Undefined while it goes on. */
  readonly endedAt: Millis | undefined;
  readonly facts: Readonly<Record<string, string>>;
}

export interface BootView extends BootSummary {
  /** In the order in which they began. */
  readonly stages: readonly BootStageTimes[];
  /** Without packets; the newest where there are very many. */
  readonly entries: readonly TimelineRecord[];
}

export interface BootPage {
  /** At most so many. */
  readonly limit: number;
  /** Only boots of an older generation. */
  readonly before?: number;
}

/** Whose boots: a machine's, or those that were made to install something. */
export type BootsOf = { readonly machineId: string } | { readonly attemptIds: readonly string[] };

/** Newest first. Error: `not-found` for an unknown machine. */
export async function listBoots(read: Reader, of: BootsOf, { limit, before }: BootPage): Promise<BootSummary[]> {
  const some = boots(read)
    .orderBy('boot_sessions.opened_at', 'desc')
    .orderBy('boot_sessions.generation', 'desc')
    .limit(limit);
  if ('attemptIds' in of) {
    if (of.attemptIds.length === 0) return [];
    return (await some.where('boot_orders.attempt_id', 'in', of.attemptIds).execute()).map(summaryOf);
  }
  const { machineId } = of;
  const machine = await read.selectFrom('machines').select('id').where('id', '=', machineId).executeTakeFirst();
  if (machine === undefined) throw new RackstartError('not-found', `There is no machine ${machineId}.`);
  const rows = await some
    .where('boot_sessions.machine_id', '=', machineId)
    .$if(before !== undefined, (query) => query.where('boot_sessions.generation', '<', before ?? 0))
    .execute();
  return rows.map(summaryOf);
}

/** Error: `not-found`. */
export async function viewBoot(read: Reader, sessionId: string): Promise<BootView> {
  const row = await boots(read).where('boot_sessions.id', '=', sessionId).executeTakeFirst();
  if (row === undefined) throw new RackstartError('not-found', `There is no boot ${sessionId}.`);
  const summary = summaryOf(row);
  const entries = await readTimeline(read, { sessionIds: [sessionId] }, undefined, { withConsole: true });
  return { ...summary, entries, stages: stagesOf(summary.session, entries) };
}

function boots(read: Reader) {
  return read
    .selectFrom('boot_sessions')
    .innerJoin('boot_orders', 'boot_orders.id', 'boot_sessions.order_id')
    .innerJoin('machines', 'machines.id', 'boot_sessions.machine_id')
    .selectAll('boot_sessions')
    .select(['boot_orders.verb', 'boot_orders.attempt_id', 'machines.name', 'machines.firmware'])
    .select(['machines.vendor', 'machines.model']);
}

type BootRow = BootSessionRow &
  Pick<BootOrderRow, 'verb' | 'attempt_id'> &
  Pick<MachineRow, 'name' | 'firmware' | 'vendor' | 'model'>;

function summaryOf({ verb, attempt_id, name, firmware, vendor, model, ...session }: BootRow): BootSummary {
  return { session, verb, attemptId: attempt_id, machine: { id: session.machine_id, name, firmware, vendor, model } };
}

function stagesOf(session: BootSessionRow, entries: readonly TimelineRecord[]): BootStageTimes[] {
  const { opened_at, powered_at, ended_at } = session;
  // Nothing goes on in a boot that is over, though nobody was left to say that its stage had ended.
  const over = ended_at ?? undefined;
  const power = { name: 'power', startedAt: opened_at, endedAt: powered_at ?? over, facts: {} };
  const booted: BootStages = stagesWithTimeline(sessionOf(session), entries);
  const stages = Object.entries(booted).map(([name, { startedAt, endedAt, facts }]) => ({
    name,
    // The session opens before the BMC is told; the firmware's time begins after.
    startedAt: name === 'dhcp' ? (powered_at ?? startedAt) : startedAt,
    endedAt: endedAt ?? over,
    facts: facts ?? {},
  }));
  // A machine that waited had its power.
  const first = session.continues === null ? [power] : [];
  return [...first, ...stages.sort((one, other) => one.startedAt - other.startedAt)];
}
