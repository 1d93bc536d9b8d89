import { SECOND } from '../kernel/clock.ts';
import type { Millis } from '../kernel/clock.ts';
import { hasCode } from '../kernel/errors.ts';
import type { StepContext } from '../saga/step.ts';
import type { BootSessionRow } from '../store/schema.ts';
import type { Reader, Tx } from '../store/store.ts';
import type { Bmc, HardwareFault, LoggedFaults } from './bmc/bmc.ts';
import { ifTold, insertEntries } from './bmc-evidence.ts';
import type { Entry } from './bmc-evidence.ts';
import type { BmcFleet } from './bmc-fleet.ts';

/**
 * Errors that were corrected and fans that turn up fill a log without a fault. One that still is not over then is read no further: at
 * the ten commands a second that a BMC gets, 128 entries.
 */
const PATIENCE_IN_ALL: Millis = 15 * SECOND;
const MOST_PIECES = 16;

type Ctx = StepContext<unknown>;

/**
 * Up to where the event log was written before a boot; undefined when the BMC did not tell. Error: `bmc.auth`, which the boot would
 * meet next: BMCs lock out who tries too often.
 */
export function eventsBefore(bmc: Bmc, ctx: Ctx): Promise<number | undefined> {
  return ifTold(
    ctx,
    (signal) => bmc.newestEvent(signal),
    (error) => hasCode(error, 'bmc.auth'),
  );
}

/** Remembers it for this boot. */
export async function rememberEvents(
  tx: Tx,
  { machineId, sessionId }: { readonly machineId: string; readonly sessionId: string },
  newest: number | undefined,
  at: Millis,
): Promise<void> {
  if (newest === undefined) return;
  await insertEntries(tx, { machine_id: machineId, session_id: sessionId, at }, [
    { id: markId(sessionId), name: 'event-log', detail: { newest } },
  ]);
}

/**
 * Puts on the timeline which faults of its hardware the BMC has recorded since a boot was ordered. Only of boots that did not get out
 * of the ramdisk: whoever is root on a server can write to the event log.
 */
export async function keepFaults(
  boot: BootSessionRow,
  { fleet }: { readonly fleet: BmcFleet },
  ctx: Ctx,
): Promise<void> {
  const before = await markOf(ctx.read, boot);
  if (before === undefined) return;
  const { id: session_id, machine_id } = boot;
  const ask = async (after: number, signal: AbortSignal) => (await fleet.of(machine_id)).faultsSince(after, signal);
  const { faults, isWhole } = await faultsBehind(before, ask, ctx);
  const entries: Entry[] = faults.map((fault) => {
    return { id: `fault_${session_id}_${String(fault.record)}`, name: FAULT, detail: { ...fault } };
  });
  if (isWhole) {
    entries.push({ id: `events_read_${session_id}`, name: READ, detail: { after: before, faults: faults.length } });
  }
  if (entries.length === 0) return;
  await ctx.transaction((tx) => insertEntries(tx, { machine_id, session_id, at: ctx.clock.now() }, entries));
}

type Ask = (after: number, signal: AbortSignal) => Promise<LoggedFaults>;

/** Piece by piece: what was told counts, also when the BMC does not tell the rest. */
async function faultsBehind(before: number, ask: Ask, ctx: Ctx): Promise<Pick<LoggedFaults, 'faults' | 'isWhole'>> {
  const { clock } = ctx;
  const until = clock.now() + PATIENCE_IN_ALL;
  const faults: HardwareFault[] = [];
  for (let after = before, pieces = 0; pieces < MOST_PIECES && clock.now() < until; pieces++) {
    const piece = await ifTold(ctx, (signal) => ask(after, signal));
    if (piece === undefined) break;
    faults.push(...piece.faults);
    if (piece.isWhole) return { faults, isWhole: true };
    after = piece.upTo;
  }
  return { faults, isWhole: false };
}

/** On the timeline: one fault, and that the event log was read to its end. */
export const FAULT = 'hardware-fault';
export const READ = 'event-log-read';

const markId = (sessionId: string) => `events_${sessionId}`;

/** A machine that waited in the ramdisk was powered for the boot that its install goes on with. */
async function markOf(read: Reader, { id, continues }: BootSessionRow): Promise<number | undefined> {
  const mark = await read
    .selectFrom('timeline')
    .select('detail')
    .where('id', '=', markId(continues ?? id))
    .executeTakeFirst();
  return mark === undefined ? undefined : (JSON.parse(mark.detail) as { newest: number }).newest;
}
