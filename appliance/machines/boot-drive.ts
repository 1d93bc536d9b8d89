import type { EventLog } from '../events/event-log.ts';
import { HOUR } from '../kernel/clock.ts';
import type { Millis } from '../kernel/clock.ts';
import type { ErrorCode } from '../kernel/errors.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Ids } from '../kernel/ids.ts';
import { done, wait } from '../saga/step.ts';
import type { StepContext, StepResult } from '../saga/step.ts';
import type { BootSessionRow } from '../store/schema.ts';
import type { Reader } from '../store/store.ts';
import type { BmcFleet } from './bmc-fleet.ts';
import type { OrderRequest } from './boot-order.ts';
import { markDiskDirty, placeOrder, revokeOrders } from './boot-order.ts';

export interface BootDriveDeps {
  readonly events: EventLog;
  readonly fleet: BmcFleet;
  readonly ids: Ids;
  /** How long a boot's tokens live after our BMC command. */
  readonly bootWindow: Millis;
  /** How long a booting machine may be silent. */
  readonly stageDeadline: Millis;
}

/** A boot that did what it was ordered to: for an install, the kexec into the new system has begun. */
export interface Booted {
  readonly machineId: string;
  readonly sessionId: string;
}

// Somebody who keeps claiming our boots is not fended off by booting for ever.
const MOST_CUT_OFF = 3;

// A machine that reports progress for ever makes none.
const LONGEST_BOOT = 2 * HOUR;

type Ctx = StepContext<unknown>;

/**
 * Makes a machine carry out an order, through as many runs as it takes: places the order, sets the boot device right before
 * the reset (BMCs forget it after 60 s), then follows what the machine reports. A boot whose reset was never recorded, because
 * we crashed, starts over under a new generation; so does one that was cut off.
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
    await startBoot(order, deps, ctx);
    return wait(ctx.clock.now() + deps.stageDeadline, ...bootEvents(machineId, since));
  }
  if (boot.state === 'failed') throw failureOf(boot);
  if (hasDone(boot, order)) return done({ machineId, sessionId: boot.id });

  const now = ctx.clock.now();
  const late = Math.min(boot.seen_at + deps.stageDeadline, boot.opened_at + LONGEST_BOOT);
  if (now < late) return wait(late, ...bootEvents(machineId, since));
  const { seen_at: seenAt, opened_at: openedAt, state } = boot;
  const what = now < seenAt + deps.stageDeadline ? 'does not come to an end' : 'fell silent';
  throw new RackstartError('boot.stage-late', `Machine ${machineId} ${what}: its boot stands at ${state}.`, {
    details: { machineId, sessionId: boot.id, state, silentForMs: now - seenAt, bootingForMs: now - openedAt },
  });
}

async function startBoot(order: OrderRequest, deps: BootDriveDeps, ctx: Ctx): Promise<void> {
  const bmc = await deps.fleet.of(order.machineId);
  const at = ctx.clock.now();
  const { sessionId } = await ctx.transaction((tx) =>
    placeOrder(tx, deps.ids, order, { at, windowUntil: at + deps.bootWindow }),
  );
  await bmc.bootOnceAndReset('pxe', ctx.signal);
  const powered = ctx.clock.now();
  await ctx.transaction((tx) =>
    tx
      .updateTable('boot_sessions')
      .set((eb) => ({ powered_at: eb.fn.coalesce('powered_at', eb.val(powered)), seen_at: powered }))
      .where('id', '=', sessionId)
      .execute(),
  );
}

/**
 * Takes a machine out of whatever it is doing, in the one order that leaves no way back in: orders and tokens are revoked, the
 * power goes off and is read off twice, the boot override is cleared, and a disk that an install may have touched counts as
 * dirty. Repeatable. Errors: those of the BMC.
 */
export async function stopMachine(machineId: string, deps: Pick<BootDriveDeps, 'fleet'>, ctx: Ctx): Promise<void> {
  await ctx.transaction((tx) => revokeOrders(tx, machineId, 'revoked', ctx.clock.now()));
  const bmc = await deps.fleet.of(machineId);
  await bmc.setPower('off', ctx.signal);
  await bmc.clearBootOverride(ctx.signal);
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
  const types = ['boot.finished', 'boot.handoff', 'boot.cut-off'] as const;
  return types.map((type) => ({ type, key: machineId, since }));
}

const isCutOff = ({ end_reason }: BootSessionRow) => end_reason === 'cut-off';

function hasDone({ state }: BootSessionRow, { verb }: OrderRequest): boolean {
  return verb === 'install' ? ['handed-off', 'booted', 'done'].includes(state) : state === 'done';
}

/** What the ramdisk may blame; anything else it says is `boot.stage-failed`. */
const reportable: readonly ErrorCode[] = [
  'image.digest',
  'image.altered',
  'image.invalid',
  'boot.stage-failed',
  'boot.disk-rule',
];

/** Why a boot failed, as its ramdisk told: a code that is not for it to give counts as `boot.stage-failed`. */
export function failureOf(boot: BootSessionRow): RackstartError {
  // As `BootSession.reason` has it: stage, code, reason.
  const [, stage = 'unknown', said, reason = 'the ramdisk gave no reason'] =
    /^([a-z]+): ([a-z.-]+): (.*)$/s.exec(boot.end_reason ?? '') ?? [];
  const code = reportable.find((known) => known === said) ?? 'boot.stage-failed';
  return new RackstartError(code, `Stage ${stage} failed: ${reason}`, {
    details: { machineId: boot.machine_id, sessionId: boot.id, stage, said, reason },
  });
}
