import type { BootDriveDeps, Booted } from '../../machines/boot-drive.ts';
import { driveBoot, stopMachine } from '../../machines/boot-drive.ts';
import type { EventLog } from '../../events/event-log.ts';
import { asRackstartError } from '../../kernel/errors.ts';
import { quarantineMachine } from '../../machines/quarantine.ts';
import type { Resource } from '../../saga/resource-plan.ts';
import type { RetryPolicy } from '../../saga/retry.ts';
import { done } from '../../saga/step.ts';
import type { StepContext } from '../../saga/step.ts';
import type { Reader } from '../../store/store.ts';
import type { ServerSpec } from '../provider.ts';
import type { Holding } from './holding.ts';
import type { FrozenPlan } from './install-plan.ts';

export interface DeployDeps extends BootDriveDeps {
  readonly events: EventLog;
  /** After its last try a machine that can't be proven off is set aside. */
  readonly retry: RetryPolicy;
}

interface DeploySpec {
  readonly spec: ServerSpec;
  readonly holding: Holding;
  readonly plan: FrozenPlan;
}

/** The install itself: from the boot order to the kexec into the new system; undone, a machine that is off and forgotten. */
export function deploy(deps: DeployDeps): Resource<DeploySpec, Booted, undefined> {
  return {
    create(_key, { spec, holding, plan }, ctx) {
      const { attemptId, tenantId } = spec;
      const { machineId } = holding;
      return driveBoot({ machineId, verb: 'install', planDigest: plan.digest, attemptId, tenantId }, deps, ctx);
    },

    // A boot is followed, never found: `create` reads how far it is.
    find: () => Promise.resolve(undefined),

    async delete(_key, _booted, ctx) {
      const machineId = await heldMachine(ctx.read, ctx.subject);
      if (machineId === undefined) return done();
      try {
        await stopMachine(machineId, deps, ctx);
      } catch (error) {
        await setAside(machineId, error, ctx);
      }
      return done();
    },
  };

  // A BMC that stays dead must not hold the tenant's quota: the machine is quarantined, still in possession of its address.
  async function setAside(machineId: string, error: unknown, ctx: StepContext<undefined>): Promise<void> {
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

async function heldMachine(read: Reader, attemptId: string): Promise<string | undefined> {
  const allocation = await read
    .selectFrom('allocations')
    .select('machine_id')
    .where('attempt_id', '=', attemptId)
    .executeTakeFirst();
  return allocation?.machine_id;
}
