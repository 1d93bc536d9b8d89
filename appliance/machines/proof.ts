import type { Clock, Millis } from '../kernel/clock.ts';
import { asRackstartError } from '../kernel/errors.ts';
import type { StepContext } from '../saga/step.ts';
import type { BootSessionRow } from '../store/schema.ts';
import type { Reader, Tx } from '../store/store.ts';
import type { BmcFleet } from './bmc-fleet.ts';
import type { BootDeadlines, WatchedStage } from './boot-deadlines.ts';
import { hardwareOf } from './boot-deadlines.ts';
import { insertTimes } from './boot-times.ts';
import type { HandoffPlan } from './boot-order.ts';
import { handoffOf } from './handoffs.ts';
import type { Late } from './lateness.ts';
import { lateIn } from './lateness.ts';

export interface ProofDeps {
  readonly fleet: BmcFleet;
  readonly deadlines: BootDeadlines;
}

/** How a machine will be handed to its new system. */
export async function planHandoff(read: Reader, machineId: string, deadlines: BootDeadlines): Promise<HandoffPlan> {
  const kind = await hardwareOf(read, machineId);
  const handoff = await handoffOf(read, kind);
  const { milliseconds: proofWithin } = await deadlines.of(kind, handoff === 'kexec' ? 'boot' : 'restart');
  return { handoff, proofWithin };
}

/** The machine is about to leave the ramdisk: from here on the new system has its time, whatever becomes of us. */
export async function beginProof(tx: Tx, { id, proof_within }: BootSessionRow, at: Millis): Promise<void> {
  if (proof_within === null) return;
  await tx
    .updateTable('boot_sessions')
    .set({ proof_due: at + proof_within })
    .where('id', '=', id)
    .execute();
}

/** An agent that nobody heard tries again every half a minute: it is given that after we were away. */
const AGENT_PERIOD: Millis = 45_000;

/** Until when the new system has to phone home; `begun` is when it was asked for first. */
export async function proofDue(
  boot: BootSessionRow,
  begun: Millis,
  { deadlines }: Pick<ProofDeps, 'deadlines'>,
  { read }: { readonly read: Reader },
): Promise<Millis> {
  const due = boot.proof_due ?? begun + (await allowedFor(boot, deadlines, read)).milliseconds;
  const away = deadlines.heardSince(0);
  // We came back after it had left the ramdisk: it may have called while nobody listened.
  return away > (boot.rescued_at ?? handedOffAt(boot)) ? Math.max(due, away + AGENT_PERIOD) : due;
}

/**
 * A new system that does not phone home is started from its disk by the BMC, once. The device is set for that boot alone (IPMI 2.0
 * §28.12, data 1 bit 6 clear): firmware that is told of a persistent one may write it into its own boot order, and then the machine
 * would never ask us again; the boots after it ask the network, which says local disk. A crash in here repeats the reset of a
 * system that had not proven itself. Errors: those of the BMC.
 */
export async function startFromDisk(
  boot: BootSessionRow,
  { fleet, deadlines }: ProofDeps,
  ctx: StepContext<unknown>,
): Promise<void> {
  const { id, machine_id } = boot;
  const kind = await hardwareOf(ctx.read, machine_id);
  const bmc = await fleet.of(machine_id);
  await bmc.bootOnceAndReset('disk', ctx.signal);
  const { milliseconds } = await deadlines.of(kind, 'restart');
  const at = ctx.clock.now();
  await ctx.transaction(async (tx) => {
    const { numUpdatedRows } = await tx
      .updateTable('boot_sessions')
      .set({ rescued_at: at, proof_due: at + milliseconds })
      .where('id', '=', id)
      .where('ended_at', 'is', null)
      .executeTakeFirst();
    if (numUpdatedRows !== 1n) return;
    const silent = { milliseconds: Math.max(0, at - handedOffAt(boot)), outcome: 'late', ended_at: at } as const;
    await insertTimes(tx, [{ session_id: id, stage: stageOf(boot), machine_id, ...kind, ...silent }]);
    const detail = { after: boot.handoff ?? 'kexec', silentForMs: silent.milliseconds, allowedMs: milliseconds };
    await tx
      .insertInto('timeline')
      .values({
        ...{ id: `rescue_${id}`, machine_id, session_id: id, at, source: 'alert', name: 'started from disk' },
        detail: JSON.stringify(detail),
      })
      .onConflict((conflict) => conflict.doNothing())
      .execute();
  });
}

/** The error of a system that did not phone home by its last deadline. */
export async function unproven(
  boot: BootSessionRow,
  { deadlines }: ProofDeps,
  { read, clock }: { readonly read: Reader; readonly clock: Clock },
): Promise<Late> {
  const kind = await hardwareOf(read, boot.machine_id);
  const allowed = await allowedFor(boot, deadlines, read);
  const under = { stage: stageOf(boot), since: boot.rescued_at ?? handedOffAt(boot) };
  return lateIn(boot, under, { kind, allowed, now: clock.now() });
}

/**
 * Before a machine goes by its firmware, that is told to start the disk. Where the BMC does not take it, the firmware asks the
 * network, which says the same: so a BMC that is away fails no install.
 */
export async function prepareReset(boot: BootSessionRow, fleet: BmcFleet, ctx: StepContext<unknown>): Promise<void> {
  if (boot.handoff !== 'reset') return;
  try {
    await (await fleet.of(boot.machine_id)).bootOnce('disk', ctx.signal);
  } catch (error) {
    ctx.signal.throwIfAborted();
    if (!asRackstartError(error).code.startsWith('bmc.')) throw error;
    ctx.log.warn({ machineId: boot.machine_id, error }, 'the boot device could not be set before the reset');
  }
}

async function allowedFor(boot: BootSessionRow, deadlines: BootDeadlines, read: Reader) {
  return deadlines.of(await hardwareOf(read, boot.machine_id), stageOf(boot));
}

/** What a machine is in that has left the ramdisk. */
function stageOf({ handoff, rescued_at }: BootSessionRow): WatchedStage {
  return handoff === 'reset' || rescued_at !== null ? 'restart' : 'boot';
}

// What the machine told last was that it leaves.
function handedOffAt({ moved_at, seen_at }: BootSessionRow): Millis {
  return moved_at ?? seen_at;
}
