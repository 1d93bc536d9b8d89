import type { BootDriveDeps, Booted } from '../../machines/boot-drive.ts';
import { driveBoot } from '../../machines/boot-drive.ts';
import type { SetAsideDeps } from '../../machines/set-aside.ts';
import { stopOrSetAside } from '../../machines/set-aside.ts';
import type { Resource } from '../../saga/resource-plan.ts';
import { done } from '../../saga/step.ts';
import type { Reader } from '../../store/store.ts';
import type { ServerSpec } from '../provider.ts';
import type { Holding } from './holding.ts';
import type { FrozenPlan } from './install-plan.ts';

export type DeployDeps = BootDriveDeps & SetAsideDeps;

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
      await stopOrSetAside(machineId, deps, ctx);
      return done();
    },
  };
}

async function heldMachine(read: Reader, attemptId: string): Promise<string | undefined> {
  const allocation = await read
    .selectFrom('allocations')
    .select('machine_id')
    .where('attempt_id', '=', attemptId)
    .executeTakeFirst();
  return allocation?.machine_id;
}
