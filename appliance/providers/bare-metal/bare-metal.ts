import { whyNotMirrored } from '../../../scheduler/mirrored-image.ts';
import type { BmcFleet } from '../../machines/bmc-fleet.ts';
import { layoutOf, rootImageOf } from '../../machines/disk-layout.ts';
import { openBoot } from '../../machines/boot-records.ts';
import { RackstartError } from '../../kernel/errors.ts';
import type { Resource } from '../../saga/resource-plan.ts';
import { planned, resourcePlan } from '../../saga/resource-plan.ts';
import { done } from '../../saga/step.ts';
import type { Connection, Provider } from '../provider.ts';
import type { SshProof } from '../proven-ssh.ts';
import { agentAccess } from './agent-access.ts';
import type { DeployDeps } from './deploy.ts';
import { deploy } from './deploy.ts';
import type { Holding, HoldingDeps } from './holding.ts';
import { holding } from './holding.ts';
import { bareMetalHoldings, removeBareMetal } from './holdings.ts';
import type { FrozenPlan, InstallPlanDeps } from './install-plan.ts';
import { frozenPlan } from './install-plan.ts';
import type { VerifyDeps } from './verified.ts';
import { handedOver, heartbeatSeen, phonedHome, sshAccepted } from './verified.ts';

export type BareMetalDeps = HoldingDeps & InstallPlanDeps & DeployDeps & { readonly verify: VerifyDeps };

/** Our own machines: what is held, in which order it is made, and what is made side by side. */
export function bareMetal(deps: BareMetalDeps): Provider {
  const resources = {
    holding: holding(deps),
    plan: frozenPlan(deps),
    bmc: answeringBmc(deps.fleet),
    deploy: deploy(deps),
    phonedHome: phonedHome(deps.verify),
    heartbeat: heartbeatSeen(deps.verify),
    ssh: sshAccepted(deps.verify),
    handedOver: handedOver(deps.verify),
  };
  return {
    type: 'bare-metal',
    capabilities: { provesSsh: true, listsHoldings: true, waitsForPeople: false },
    clusters: [],

    complaints({ flavor, image }) {
      const message = layoutOf(flavor).root?.mirror === undefined ? undefined : whyNotMirrored(rootImageOf(image));
      return message === undefined ? [] : [{ field: '/image', message }];
    },

    plan: (spec) => ({
      allocate: resourcePlan(planned('holding', resources.holding, spec)),
      configure: resourcePlan(
        planned('plan', resources.plan, (refs) => ({ spec, holding: refs.get<Holding>('holding') })),
        planned('agent', agentAccess, (refs) => ({ spec, holding: refs.get<Holding>('holding') })),
        planned('bmc', resources.bmc, (refs) => refs.get<Holding>('holding')),
      ),
      activate: resourcePlan(
        planned('deploy', resources.deploy, (refs) => ({
          spec,
          holding: refs.get<Holding>('holding'),
          plan: refs.get<FrozenPlan>('plan'),
        })),
      ),
      verify: resourcePlan(
        planned('phone-home', resources.phonedHome, spec),
        planned('heartbeat', resources.heartbeat, spec),
        planned('ssh', resources.ssh, (refs) => ({ spec, holding: refs.get<Holding>('holding') })),
        planned('hand-over', resources.handedOver, (refs) => refs.get<Holding>('holding'), {
          after: ['phone-home', 'heartbeat', 'ssh'],
        }),
      ),
    }),

    held(refs) {
      const holding = refs['holding'] as Holding | undefined;
      if (holding === undefined) return [];
      const addresses = holding.addresses.map(({ address }) => ({ resource: 'address', id: address }));
      return [{ resource: 'machine', id: holding.machineId }, ...addresses];
    },

    connection(refs): Connection {
      const { addresses } = refs['holding'] as Holding;
      const { hostKey } = refs['ssh'] as SshProof;
      return { username: 'root', addresses: addresses.map(({ address }) => address), hostKey };
    },

    holdings: ({ read }) => bareMetalHoldings(read),
    remove: (held, ctx) => removeBareMetal(deps.events, held, ctx),
  };
}

/**
 * Opens the session to the machine's BMC and reads its power while the plan is being rendered: a dead BMC is known before
 * anything was touched, and the reset finds a warm session. A parked machine is not asked for: it is on, and BMCs take their
 * time. Holds nothing.
 */
function answeringBmc(fleet: BmcFleet): Resource<Holding, { power: 'on' | 'off' }, undefined> {
  return {
    async create(_key, { machineId }, ctx) {
      if ((await openBoot(ctx.read, machineId))?.state === 'parked') return done({ power: 'on' });
      const power = await (await fleet.of(machineId)).power(ctx.signal);
      if (power !== 'unknown') return done({ power });
      throw new RackstartError('bmc.power-unknown', `The power state of machine ${machineId} can't be read.`);
    },
    find: () => Promise.resolve(undefined),
    delete: () => Promise.resolve(done()),
  };
}
