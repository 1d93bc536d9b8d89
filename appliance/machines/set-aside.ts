import type { EventLog } from '../events/event-log.ts';
import { asRackstartError } from '../kernel/errors.ts';
import type { RetryPolicy } from '../saga/retry.ts';
import type { StepContext } from '../saga/step.ts';
import type { BootDriveDeps } from './boot-drive.ts';
import { stopMachine } from './boot-drive.ts';
import { quarantineMachine } from './quarantine.ts';

export interface SetAsideDeps extends Pick<BootDriveDeps, 'fleet'> {
  readonly events: EventLog;
  /** After its last try a machine that can't be proven off is set aside. */
  readonly retry: RetryPolicy;
}

/**
 * The end of every undo: a machine that is off. One whose BMC stays dead must hold up nobody: after the last try it is
 * quarantined, still in possession of what it had, and an alert is raised. Errors: those of the BMC, until then.
 */
export async function stopOrSetAside(machineId: string, deps: SetAsideDeps, ctx: StepContext<unknown>): Promise<void> {
  try {
    await stopMachine(machineId, deps, ctx);
  } catch (error) {
    const { code, message } = asRackstartError(error);
    if (!code.startsWith('bmc.') || deps.retry(ctx.tries) !== undefined) throw error;
    const at = ctx.clock.now();
    await ctx.transaction(async (tx) => {
      await quarantineMachine(tx, deps.events, { machineId, reason: message, actor: 'saga', at });
      const data = { subject: machineId, code, message: `Machine ${machineId} can't be proven off: ${message}` };
      await deps.events.append(tx, 'alert.raised', { key: machineId, actor: 'saga', data });
    });
  }
}
