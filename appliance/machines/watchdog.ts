import { MINUTE, SECOND } from '../kernel/clock.ts';
import type { Millis } from '../kernel/clock.ts';
import { hasCode } from '../kernel/errors.ts';
import type { StepContext } from '../saga/step.ts';
import type { BootSessionRow } from '../store/schema.ts';
import type { Tx } from '../store/store.ts';
import type { Bmc, Watchdog } from './bmc/bmc.ts';
import { ifTold, insertEntries } from './bmc-evidence.ts';
import type { BmcFleet } from './bmc-fleet.ts';

/**
 * The watchdog timer of a BMC, while a server is installed: the ramdisk starts it, keeps it up every ten seconds and stops it before it
 * leaves (images/ramdisk/watchdog.sh). Nobody else ever starts it. From here it is only stopped, so that whoever dies when, of daemon,
 * network and ramdisk, the timer is armed on no machine but one whose ramdisk started it and was never handed over.
 */
export const WATCHDOG: Millis = MINUTE;

/** Longer than the ramdisk takes to keep it up, with a slow BMC: then the machine stands still, though the timer has not run out yet. */
const STANDSTILL: Millis = 40 * SECOND;

type Ctx = StepContext<unknown>;

/**
 * Before the reset of a boot: whatever runs is stopped, that it ever ran out is forgotten, and the BMC shows that it could reset the
 * machine. One that refuses (`ipmi_sim` answers 0xcc, others 0xc1), or tells something else back, is a machine without a watchdog: what
 * it answered is on the timeline of the boot, which goes on. Errors: those of a BMC that is not to be had.
 */
export async function prepareWatchdog(bmc: Bmc, sessionId: string, ctx: Ctx): Promise<void> {
  try {
    await bmc.stopWatchdog('reset', ctx.signal);
  } catch (error) {
    ctx.signal.throwIfAborted();
    if (!hasCode(error, 'bmc.refused') && !hasCode(error, 'bmc.lied')) throw error;
    await ctx.transaction((tx) => notWatched(tx, sessionId));
  }
}

/**
 * Before a tenant is given the machine: the ramdisk has stopped the timer, and here the BMC says so. Without its word there is no
 * hand-over. Errors: those of the BMC.
 */
export async function leaveUnwatched(boot: BootSessionRow, fleet: BmcFleet, ctx: Ctx): Promise<void> {
  if (boot.watchdog === null) return;
  const bmc = await fleet.of(boot.machine_id);
  await bmc.stopWatchdog('none', ctx.signal);
}

/**
 * What the last boot of a machine may have left: stopped on the way back, of a machine that is off, also where it is the tenant's own,
 * and before a boot that starts over. Once: then it is not watched any more. Errors: those of the BMC.
 */
export async function stopWatchdog(machineId: string, bmc: Bmc, ctx: Ctx): Promise<void> {
  const last = await ctx.read
    .selectFrom('boot_sessions')
    .select(['id', 'watchdog'])
    .where('machine_id', '=', machineId)
    .orderBy('generation', 'desc')
    .limit(1)
    .executeTakeFirst();
  if (last === undefined || last.watchdog === null) return;
  await bmc.stopWatchdog('none', ctx.signal);
  await ctx.transaction((tx) => notWatched(tx, last.id));
}

/** Puts on the timeline of a boot that failed what its BMC's watchdog says: whether the machine itself stood still. */
export async function keepStandstill(
  boot: BootSessionRow,
  { fleet }: { readonly fleet: BmcFleet },
  ctx: Ctx,
): Promise<void> {
  if (boot.watchdog === null) return;
  const timer = await ifTold(ctx, async (signal) => (await fleet.of(boot.machine_id)).watchdog(signal));
  if (timer === undefined) return;
  const { id: session_id, machine_id } = boot;
  const detail = { stoodStill: stoodStill(timer), fired: timer.fired, unfedMs: timer.unfedFor };
  await ctx.transaction((tx) =>
    insertEntries(tx, { machine_id, session_id, at: ctx.clock.now() }, [
      { id: `watchdog_${session_id}`, name: STANDING, detail },
    ]),
  );
}

/** On the timeline: what the watchdog said when the boot was given up. */
export const STANDING = 'watchdog';

function stoodStill({ armed, fired, unfedFor }: Watchdog): boolean {
  return fired || (armed && unfedFor >= STANDSTILL);
}

async function notWatched(tx: Tx, sessionId: string): Promise<void> {
  await tx.updateTable('boot_sessions').set({ watchdog: null }).where('id', '=', sessionId).execute();
}
