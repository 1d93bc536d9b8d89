import type { EventLog } from '../events/event-log.ts';
import type { Millis } from '../kernel/clock.ts';
import type { ErrorCode } from '../kernel/errors.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Ids } from '../kernel/ids.ts';
import { done, wait } from '../saga/step.ts';
import type { StepContext, StepResult } from '../saga/step.ts';
import type { BootSessionRow } from '../store/schema.ts';
import type { Reader } from '../store/store.ts';
import type { BmcFleet } from './bmc-fleet.ts';
import type { BootDeadlines } from './boot-deadlines.ts';
import { hardwareOf } from './boot-deadlines.ts';
import type { OrderRequest, PlacedOrder } from './boot-order.ts';
import { markDiskDirty, orderParked, placeOrder, revokeOrders, withdrawOrder } from './boot-order.ts';
import { eventsBefore, keepFaults, rememberEvents } from './event-log.ts';
import { giveUp, lateReason, lateness } from './lateness.ts';
import { planHandoff, prepareReset } from './proof.ts';
import { toldTenant } from './told-tenant.ts';
import { WATCHDOG, keepStandstill, leaveUnwatched, prepareWatchdog, stopWatchdog } from './watchdog.ts';

export interface BootDriveDeps {
  readonly events: EventLog;
  readonly fleet: BmcFleet;
  readonly ids: Ids;
  /** How long a boot's tokens live after our BMC command. */
  readonly bootWindow: Millis;
  /** How long a booting machine may take for each of its stages. */
  readonly deadlines: BootDeadlines;
  /** How long a parked machine may leave an order untaken. */
  readonly takeDeadline: Millis;
  /** Whether BMCs reset machines that stand still while a server is installed on them. */
  readonly watchdog: boolean;
}

/** A boot that did what it was ordered to: for an install, the kexec into the new system has begun; to wait, it is parked. */
export interface Booted {
  readonly machineId: string;
  readonly sessionId: string;
}

// Somebody who keeps claiming our boots is not fended off by booting for ever.
const MOST_CUT_OFF = 3;

type Ctx = StepContext<unknown>;

/**
 * Makes a machine carry out an order, through as many runs as it takes: places the order, sets the boot device right before
 * the reset (BMCs forget it after 60 s), then follows what the machine reports. A boot whose reset was never recorded, because
 * we crashed, starts over under a new generation; so does one that was cut off.
 *
 * A parked machine is given its install where it waits, without its BMC. One that does not take it in time goes the way of all
 * others, after the order was taken back: by compare-and-swap, so that it never follows both.
 *
 * Errors: those of the BMC; `boot.stage-late`, `boot.claim-conflict`; the code that the ramdisk gave for its failure.
 */
export async function driveBoot(order: OrderRequest, deps: BootDriveDeps, ctx: Ctx): Promise<StepResult<Booted>> {
  const since = await deps.events.position();
  const { machineId } = order;
  const boots = await bootsOf(ctx.read, order, ctx.startedAt);
  const boot = boots.at(-1);
  if (boot === undefined || boot.powered_at === null || isCutOff(boot)) {
    const cutOff = boots.filter(isCutOff).length;
    if (cutOff >= MOST_CUT_OFF) {
      const message = `Somebody else kept claiming the boot of machine ${machineId}.`;
      throw new RackstartError('boot.claim-conflict', message, { details: { machineId, cutOff } });
    }
    const warm = boot === undefined ? await orderWarm(order, deps, ctx) : undefined;
    if (warm !== undefined) return wait(ctx.clock.now() + deps.takeDeadline, ...bootEvents(machineId, since));
    return startBoot(order, deps, ctx, since);
  }
  if (boot.state === 'ordered') {
    const takenBy = boot.opened_at + deps.takeDeadline;
    if (ctx.clock.now() < takenBy) return wait(takenBy, ...bootEvents(machineId, since));
    return startBoot(order, deps, ctx, since, boot);
  }
  if (boot.state === 'failed') {
    await keepEvidence(boot, deps, ctx);
    throw failureOf(boot);
  }
  if (hasDone(boot, order)) {
    await prepareReset(boot, deps.fleet, ctx);
    if (order.verb === 'install') await leaveUnwatched(boot, deps.fleet, ctx);
    return done({ machineId, sessionId: boot.id });
  }

  const late = await lateness(boot, deps.deadlines, ctx);
  if (!late.isLate) return wait(late.lookAgainAt, ...bootEvents(machineId, since));
  await ctx.transaction((tx) => giveUp(tx, boot, late));
  await keepEvidence(boot, deps, ctx);
  throw late.error;
}

/** What the BMC knows of a boot that failed. */
async function keepEvidence(boot: BootSessionRow, deps: BootDriveDeps, ctx: Ctx): Promise<void> {
  await keepFaults(boot, deps, ctx);
  await keepStandstill(boot, deps, ctx);
}

/** Undefined when the machine is not parked, or the order is none that a parked machine gets. */
async function orderWarm(order: OrderRequest, deps: BootDriveDeps, ctx: Ctx): Promise<PlacedOrder | undefined> {
  if (order.verb !== 'install') return undefined;
  const handoff = await planHandoff(ctx.read, order.machineId, deps.deadlines);
  return ctx.transaction(async (tx) => {
    const placed = await orderParked(tx, deps.ids, order, { at: ctx.clock.now(), handoff });
    if (placed === undefined) return undefined;
    const { machineId, attemptId } = order;
    const { sessionId, generation } = placed;
    const data = { machineId, sessionId, generation, attemptId };
    const tenantId = await toldTenant(tx, attemptId);
    await deps.events.append(tx, 'boot.ordered', { key: machineId, tenantId, actor: 'saga', data });
    await tx.updateTable('attempts').set({ path: 'warm' }).where('id', '=', attemptId).execute();
    return placed;
  });
}

/** `instead` of an order that a parked machine has not taken; where it has meanwhile, nothing is done. */
async function startBoot(
  order: OrderRequest,
  deps: BootDriveDeps,
  ctx: Ctx,
  since: number,
  instead?: BootSessionRow,
): Promise<StepResult<never>> {
  const bmc = await deps.fleet.of(order.machineId);
  await stopWatchdog(order.machineId, bmc, ctx);
  const handoff = order.verb === 'install' ? await planHandoff(ctx.read, order.machineId, deps.deadlines) : undefined;
  // One that waits is watched from the install that it is given on.
  const isWatched = deps.watchdog && (order.verb === 'install' || order.verb === 'wait');
  const at = ctx.clock.now();
  const placed = await ctx.transaction(async (tx) => {
    if (instead !== undefined && !(await withdrawOrder(tx, instead, at))) return undefined;
    if (instead !== undefined && order.verb === 'install') {
      await tx.updateTable('attempts').set({ path: 'cold' }).where('id', '=', order.attemptId).execute();
    }
    const opening = { at, windowUntil: at + deps.bootWindow, ...(handoff && { handoff }) };
    return placeOrder(tx, deps.ids, order, { ...opening, watchdog: isWatched ? WATCHDOG : null });
  });
  if (placed === undefined) return wait(at, ...bootEvents(order.machineId, since));
  // A BMC that refuses even this has failed a boot that is on record, and can be diagnosed.
  const events = await eventsBefore(bmc, ctx);
  const { sessionId } = placed;
  if (isWatched) await prepareWatchdog(bmc, sessionId, ctx);
  await bmc.bootOnceAndReset('pxe', ctx.signal);
  const powered = ctx.clock.now();
  await ctx.transaction(async (tx) => {
    await tx
      .updateTable('boot_sessions')
      .set((eb) => ({ powered_at: eb.fn.coalesce('powered_at', eb.val(powered)), seen_at: powered }))
      .where('id', '=', sessionId)
      .execute();
    await rememberEvents(tx, { machineId: order.machineId, sessionId }, events, at);
  });
  const kind = await hardwareOf(ctx.read, order.machineId);
  return wait(ctx.clock.now() + (await deps.deadlines.shortest(kind)), ...bootEvents(order.machineId, since));
}

/**
 * Takes a machine out of whatever it is doing, in the one order that leaves no way back in: orders and tokens are revoked, the
 * power goes off and is read off twice, boot override and watchdog are cleared, and a disk that an install may have touched counts as
 * dirty. Repeatable. Errors: those of the BMC.
 */
export async function stopMachine(machineId: string, deps: Pick<BootDriveDeps, 'fleet'>, ctx: Ctx): Promise<void> {
  await ctx.transaction((tx) => revokeOrders(tx, machineId, 'revoked', ctx.clock.now()));
  const bmc = await deps.fleet.of(machineId);
  await bmc.setPower('off', ctx.signal);
  await bmc.clearBootOverride(ctx.signal);
  await stopWatchdog(machineId, bmc, ctx);
  await ctx.transaction(async (tx) => {
    const install = await tx
      .selectFrom('boot_orders')
      .innerJoin('allocations', 'allocations.attempt_id', 'boot_orders.attempt_id')
      .select('boot_orders.id')
      .where('allocations.machine_id', '=', machineId)
      .where('boot_orders.state', '=', 'consumed')
      .executeTakeFirst();
    if (install !== undefined) await markDiskDirty(tx, machineId, ctx.clock.now());
  });
}

/** The boots made for this order by this step, oldest first. */
async function bootsOf(read: Reader, order: OrderRequest, since: Millis): Promise<BootSessionRow[]> {
  return (
    read
      .selectFrom('boot_sessions')
      .innerJoin('boot_orders', 'boot_orders.id', 'boot_sessions.order_id')
      .selectAll('boot_sessions')
      .where('boot_orders.machine_id', '=', order.machineId)
      .where('boot_orders.verb', '=', order.verb)
      .where('boot_orders.created_at', '>=', since)
      // One that was ended otherwise is somebody else's, even of the same millisecond.
      .where((eb) => eb.or([eb('boot_sessions.ended_at', 'is', null), eb('end_reason', '=', 'cut-off')]))
      .$if(order.verb === 'install', (query) =>
        query.where('boot_orders.attempt_id', '=', order.verb === 'install' ? order.attemptId : ''),
      )
      .orderBy('boot_sessions.generation')
      .execute()
  );
}

// Stages on the way wake nobody: that the machine lives is seen when it would be late.
function bootEvents(machineId: string, since: number) {
  const types = ['boot.parked', 'boot.finished', 'boot.handoff', 'boot.cut-off'] as const;
  return types.map((type) => ({ type, key: machineId, since }));
}

const isCutOff = ({ end_reason }: BootSessionRow) => end_reason === 'cut-off';

function hasDone({ state }: BootSessionRow, { verb }: OrderRequest): boolean {
  if (verb === 'install') return ['handed-off', 'booted', 'done'].includes(state);
  return state === (verb === 'wait' ? 'parked' : 'done');
}

/** What the ramdisk may blame; anything else it says is `boot.stage-failed`. */
const reportable: readonly ErrorCode[] = [
  'image.digest',
  'image.altered',
  'image.invalid',
  'image.unreachable',
  'disk.failed',
  'boot.stage-failed',
  'boot.disk-rule',
];

/** Why a boot failed, as its ramdisk told: a code that is not for it to give counts as `boot.stage-failed`. */
export function failureOf(boot: BootSessionRow): RackstartError {
  // Not the ramdisk's word: whoever found it late was killed before the saga had turned back.
  const late = lateReason(boot);
  if (late !== undefined) {
    return new RackstartError('boot.stage-late', late, {
      details: { machineId: boot.machine_id, sessionId: boot.id },
    });
  }
  // As `BootSession.reason` has it: stage, code, reason.
  const [, stage = 'unknown', said, reason = 'the ramdisk gave no reason'] =
    /^([a-z]+): ([a-z.-]+): (.*)$/s.exec(boot.end_reason ?? '') ?? [];
  const code = reportable.find((known) => known === said) ?? 'boot.stage-failed';
  return new RackstartError(code, `Stage ${stage} failed: ${reason}`, {
    details: { machineId: boot.machine_id, sessionId: boot.id, stage, said, reason },
  });
}
