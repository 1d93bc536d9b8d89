import type { Deadline } from '../../scheduler/deadline.ts';
import { HOUR, SECOND } from '../kernel/clock.ts';
import type { Millis } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { StepContext } from '../saga/step.ts';
import type { BootSessionRow } from '../store/schema.ts';
import type { Tx } from '../store/store.ts';
import type { BootDeadlines, HardwareKind, WatchedStage } from './boot-deadlines.ts';
import { hardwareOf } from './boot-deadlines.ts';
import { recordBoot } from './boot-records.ts';
import { insertTimes } from './boot-times.ts';
import type { StageClock } from './stage-clock.ts';
import { stageClock } from './stage-clock.ts';

/** Whether a boot stands still for longer than its stage may on this hardware; if not, when to ask again. */
export type Lateness = { readonly isLate: false; readonly lookAgainAt: Millis } | Late;

/** A boot that is given up. */
export interface Late {
  readonly isLate: true;
  readonly at: Millis;
  readonly stage: WatchedStage;
  readonly kind: HardwareKind;
  readonly allowed: Deadline;
  /** How long nothing moved it until that was noticed. */
  readonly silentFor: Millis;
  readonly error: RackstartError;
}

// A machine that comes a little further for ever does not come to an end.
const LONGEST_BOOT = 2 * HOUR;
// A hard disk of 20 TB takes zeros for a day and a half.
const LONGEST_WIPE = 48 * HOUR;

function longest(stage: WatchedStage): Millis {
  return stage === 'wipe' ? LONGEST_WIPE : LONGEST_BOOT;
}

/** Of a boot whose ramdisk is to do something. */
export async function lateness(
  boot: BootSessionRow,
  deadlines: BootDeadlines,
  ctx: Pick<StepContext<unknown>, 'read' | 'clock'>,
): Promise<Lateness> {
  const kind = await hardwareOf(ctx.read, boot.machine_id);
  const under = await stageClock(ctx.read, boot);
  const allowed = await deadlines.of(kind, under.stage);
  const now = ctx.clock.now();
  const end = boot.opened_at + longest(under.stage);
  const late = Math.min(deadlines.heardSince(under.since) + allowed.milliseconds, end);
  if (now < late) return { isLate: false, lookAgainAt: Math.min(late, now + (await deadlines.shortest(kind))) };
  return lateIn(boot, under, { kind, allowed, now, endless: now >= end });
}

/** What is told of a boot that stood still for too long in this stage. */
export function lateIn(
  boot: BootSessionRow,
  { stage, since }: StageClock,
  { kind, allowed, now, endless = false }: { kind: HardwareKind; allowed: Deadline; now: Millis; endless?: boolean },
): Late {
  const silentFor = now - since;
  const what = endless
    ? `does not come to an end: after ${String(longest(stage) / HOUR)} hours it is in stage ${stage}`
    : `stands still in stage ${stage} for ${seconds(silentFor)}`;
  const message = `Machine ${boot.machine_id} ${what}. ${usual(stage, kind, allowed)}`;
  const { samples, basis, p99 = null, milliseconds: allowedMs } = allowed;
  const error = new RackstartError('boot.stage-late', message, {
    details: {
      ...{ machineId: boot.machine_id, sessionId: boot.id, state: boot.state, stage, silentForMs: silentFor },
      ...{ bootingForMs: now - boot.opened_at, allowedMs, p99Ms: p99, samples, basis, model: kind.model },
    },
  });
  return { isLate: true, at: now, stage, kind, allowed, silentFor, error };
}

/** Ends a boot that is late: the session says so, the timeline how long it was silent, and the model's times that it was late. */
export async function giveUp(tx: Tx, boot: BootSessionRow, late: Late): Promise<void> {
  const { at, stage, kind, silentFor, error } = late;
  await recordBoot(tx, boot.id, { type: 'late', reason: `${LATE}${error.message}` }, at);
  const { machine_id, id: session_id } = boot;
  const times = { milliseconds: Math.max(0, Math.round(silentFor)), outcome: 'late', ended_at: at } as const;
  await insertTimes(tx, [{ session_id, stage, machine_id, ...kind, ...times }]);
  await tx
    .insertInto('timeline')
    .values({
      ...{ id: `late_${session_id}`, machine_id, session_id, at, source: 'alert', name: 'late' },
      detail: JSON.stringify({ ...error.details, message: error.message }),
    })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
}

/** Why a session that was late was ended; undefined for any other end. */
export function lateReason({ end_reason: reason }: BootSessionRow): string | undefined {
  return reason?.startsWith(LATE) === true ? reason.slice(LATE.length) : undefined;
}

// No stage of a ramdisk is called so.
const LATE = 'late: ';

/** What the stage takes on such machines, for people. */
function usual(stage: WatchedStage, { model }: HardwareKind, { samples, p99, basis, milliseconds }: Deadline): string {
  const each = stage === 'image' ? ' for each GiB' : '';
  const allowed = `Allowed were ${seconds(milliseconds)}`;
  const name = model ?? 'hardware of an unknown model';
  if (p99 === undefined) return `${allowed}: nothing is known of ${name} yet.`;
  const most = `99 in 100 boots of ${name} take at most ${seconds(p99)}${each} (${String(samples)} measured)`;
  return basis === 'doubted' ? `${allowed}, since the last boots were late, too: ${most}.` : `${allowed}: ${most}.`;
}

function seconds(time: Millis): string {
  return `${(time / SECOND).toFixed(1)} s`;
}
