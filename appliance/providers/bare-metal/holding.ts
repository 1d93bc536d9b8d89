import type { PlacementReasons } from '../../../scheduler/placement.ts';
import { parseCidr } from '../../network/address-range.ts';
import { holdAddress, releaseAddresses, setAddressesAside } from '../../network/ipam.ts';
import type { EventLog } from '../../events/event-log.ts';
import { RackstartError } from '../../kernel/errors.ts';
import type { StageTimes } from '../../kernel/stage-times.ts';
import { untimed } from '../../kernel/stage-times.ts';
import { openBoot } from '../../machines/boot-records.ts';
import { moveMachine } from '../../machines/machine-states.ts';
import { quarantineMachine } from '../../machines/quarantine.ts';
import type { MachineCare } from '../../machines/machine-care.ts';
import type { Resource } from '../../saga/resource-plan.ts';
import { done } from '../../saga/step.ts';
import type { StepContext } from '../../saga/step.ts';
import type { SubnetRow } from '../../store/schema.ts';
import type { Reader, Tx } from '../../store/store.ts';
import type { ServerSpec } from '../provider.ts';
import { PlacementDesk } from './placement-desk.ts';

/** A machine and the addresses of its server, held together. */
export interface Holding {
  readonly machineId: string;
  readonly addresses: readonly HeldAddress[];
}

export interface HeldAddress {
  readonly family: 4 | 6;
  readonly address: string;
  readonly prefixLength: number;
  readonly gateway: string | null;
  readonly dns: readonly string[];
}

export interface HoldingDeps {
  readonly events: EventLog;
  readonly care: MachineCare;
  readonly times?: StageTimes;
}

// Somebody else took the chosen machine: choose again. Losing this often means that the fleet is being drained.
const PLACEMENTS = 10;

type Ctx = StepContext<undefined>;

/**
 * The choice is made outside, on what is free now; claiming machine and addresses is one transaction, which may refuse the
 * choice. Given back, a machine whose disk was written goes through a wipe before anyone else gets it; one whose own fault it was
 * that the attempt failed is set aside; one that could not be proven off as well, and keeps its addresses; one that still waits in
 * the ramdisk is ready again.
 *
 * Errors: `placement.none` with the reason for one machine of each kind, `address.pool-empty`.
 */
export function holding({ events, care, times = untimed }: HoldingDeps): Resource<ServerSpec, Holding, undefined> {
  const desk = new PlacementDesk(times);
  return {
    async create(_key, spec, ctx) {
      const earlier = await findHolding(ctx.read, ctx.subject);
      if (earlier !== undefined) return done(earlier);
      for (let round = 0; round < PLACEMENTS; round += 1) {
        const held = await desk.choosing(ctx, spec, (chosen) => ctx.transaction((tx) => claim(tx, chosen, spec, ctx)));
        if (held !== undefined) return done(held);
      }
      throw new RackstartError('placement.none', 'Every machine that fits was taken by somebody else; try again.');
    },

    find: (_key, ctx) => findHolding(ctx.read, ctx.subject),

    async delete(_key, _holding, ctx) {
      await ctx.transaction((tx) => giveBack(tx, ctx));
      return done();
    },
  };

  async function claim(tx: Tx, chosen: PlacementReasons, spec: ServerSpec, ctx: Ctx): Promise<Holding | undefined> {
    const { machineId } = chosen;
    const at = ctx.clock.now();
    const machine = await tx.selectFrom('machines').select('disk_state').where('id', '=', machineId).executeTakeFirst();
    if (machine?.disk_state !== 'clean') return undefined;
    if (!(await moveMachine(tx, events, { machineId, to: 'deploying', actor: 'saga', at }))) return undefined;
    const { attemptId, tenantId } = spec;
    await tx
      .insertInto('allocations')
      .values({ machine_id: machineId, attempt_id: attemptId, tenant_id: tenantId, claimed_at: at })
      .execute();
    const placement = JSON.stringify(chosen);
    await tx.updateTable('attempts').set({ machine_id: machineId, placement }).where('id', '=', attemptId).execute();
    const addresses: HeldAddress[] = [];
    for (const subnet of await serverSubnets(tx, spec)) {
      const holder = { kind: 'attempt', id: attemptId, tenantId } as const;
      addresses.push(held(subnet, await holdAddress(tx, subnet, 'servers', holder, at)));
    }
    return { machineId, addresses };
  }

  async function giveBack(tx: Tx, ctx: Ctx): Promise<void> {
    const attemptId = ctx.subject;
    const at = ctx.clock.now();
    const allocation = await tx
      .selectFrom('allocations')
      .innerJoin('machines', 'machines.id', 'allocations.machine_id')
      .innerJoin('attempts', 'attempts.id', 'allocations.attempt_id')
      .select(['machines.id', 'machines.state', 'machines.disk_state', 'attempts.blame', 'attempts.blame_reason'])
      .where('allocations.attempt_id', '=', attemptId)
      .executeTakeFirst();
    if (allocation === undefined) return;
    const { id: machineId, state, disk_state, blame, blame_reason } = allocation;
    await tx.deleteFrom('allocations').where('attempt_id', '=', attemptId).execute();
    if (state === 'quarantined') return setAddressesAside(tx, attemptId, machineId);
    await releaseAddresses(tx, { kind: 'attempt', id: attemptId });
    if (blame === 'machine') {
      const reason = blame_reason ?? 'It failed a deploy.';
      await quarantineMachine(tx, events, { machineId, reason, actor: 'saga', at });
    } else if (disk_state === 'dirty') await care.startWipe(tx, machineId);
    else {
      // Nothing was ordered of one that still waits: it goes on waiting, for somebody else.
      const isParked = (await openBoot(tx, machineId))?.state === 'parked';
      await moveMachine(tx, events, { machineId, to: isParked ? 'ready' : 'available', actor: 'saga', at });
    }
  }
}

async function findHolding(read: Reader, attemptId: string): Promise<Holding | undefined> {
  const allocation = await read
    .selectFrom('allocations')
    .select('machine_id')
    .where('attempt_id', '=', attemptId)
    .executeTakeFirst();
  if (allocation === undefined) return undefined;
  const rows = await read
    .selectFrom('addresses')
    .innerJoin('subnets', 'subnets.id', 'addresses.subnet_id')
    .selectAll('subnets')
    .select('addresses.address')
    .where('holder_kind', '=', 'attempt')
    .where('holder_id', '=', attemptId)
    .orderBy('family')
    .execute();
  return { machineId: allocation.machine_id, addresses: rows.map((row) => held(row, row.address)) };
}

/** The networks a server gets an address on: one a family. Errors: `config.invalid` when there is none. */
async function serverSubnets(tx: Tx, { regionId, flavor }: ServerSpec): Promise<SubnetRow[]> {
  const subnets = await tx
    .selectFrom('subnets')
    .selectAll()
    .where('region_id', '=', regionId)
    .where('role', 'in', flavor.nics === 'separate' ? ['customer'] : ['both'])
    .orderBy('family')
    .orderBy('id')
    .execute();
  const perFamily = subnets.filter(({ family }, index) => subnets.findIndex((s) => s.family === family) === index);
  if (perFamily.length > 0) return perFamily;
  throw new RackstartError('config.invalid', `The region has no subnet for servers of flavor ${flavor.name}.`);
}

function held(subnet: SubnetRow, address: string): HeldAddress {
  const { family, cidr, gateway, dns } = subnet;
  const { prefixLength } = parseCidr(cidr);
  return { family, address, prefixLength, gateway, dns: JSON.parse(dns) as string[] };
}
