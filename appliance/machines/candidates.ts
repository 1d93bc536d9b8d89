import type { ExpressionBuilder } from 'kysely';

import type { Disk, DiskLayout, DiskRule } from '../../scheduler/disk-plan.ts';
import { planDisks } from '../../scheduler/disk-plan.ts';
import type { Candidate } from '../../scheduler/placement.ts';
import { HOUR } from '../kernel/clock.ts';
import type { Millis } from '../kernel/clock.ts';
import type { Database } from '../store/schema.ts';
import type { Reader } from '../store/store.ts';

const GIB = 1024 ** 3;

/** A machine that could be claimed now. */
export interface FreeMachine
  extends Pick<Candidate, 'machineId' | 'rackId' | 'cores' | 'memoryMib' | 'nics' | 'ready' | 'warnings'>, Place {
  readonly disks: FreeDisks;
}

/** What a machine shares with others, so that one fault takes them all. */
export interface Place {
  readonly rackId: string;
  /** Undefined where nobody said. */
  readonly switchName: string | undefined;
  readonly feed: string | undefined;
}

/** A machine's disks, as far as a choice goes by them. */
export interface FreeDisks {
  /** Those of one kind suit the same layouts. */
  readonly kind: string;
  /** Of the root; undefined where they do not suit the layout: the ramdisk would stop there. */
  rootGib(layout: DiskLayout): number | undefined;
}

/** What a choice needs to know of a region. */
export interface FreeFleet {
  readonly machines: readonly FreeMachine[];
  /** The machines that are held; `isNew` while they are being deployed, and for an hour from their claim. */
  readonly held: readonly (Place & { readonly tenantId: string; readonly isNew: boolean })[];
}

/** A flaw that deploys bring to light shows soon: for so long a server counts as new. */
const NEW_FOR: Millis = HOUR;

/**
 * The machines of a region that could be claimed now: inspected, idle, with a disk proven clean and a NIC that boots. Who holds
 * the others comes along, so that the choice itself needs no database.
 */
export async function freeMachines(read: Reader, regionId: string, now: Millis): Promise<FreeFleet> {
  const machines = await read
    .selectFrom('machines')
    .innerJoin('racks', 'racks.id', 'machines.rack_id')
    .select(['machines.id', 'machines.rack_id', 'machines.state', 'machines.cores', 'machines.memory_mib'])
    .select(['machines.disk_rule', 'racks.power_feed'])
    .select((eb) => [
      eb
        .selectFrom('machine_nics')
        .select((nics) => nics.fn.countAll<number>().as('count'))
        .whereRef('machine_nics.machine_id', '=', 'machines.id')
        .as('nic_count'),
      firstPort(eb).as('switch_port'),
    ])
    .where('racks.region_id', '=', regionId)
    .where('machines.state', 'in', ['available', 'ready'])
    .where('machines.disk_state', '=', 'clean')
    .execute();
  const disks = await disksOf(read, regionId);
  const warnings = await warningsOf(read);
  return {
    machines: machines.map((machine) => ({
      machineId: machine.id,
      ...placeOf(machine),
      cores: machine.cores ?? 0,
      memoryMib: machine.memory_mib ?? 0,
      disks: freeDisks(machine.disk_rule, disks.get(machine.id) ?? []),
      nics: machine.nic_count ?? 0,
      ready: machine.state === 'ready',
      warnings: warnings.get(machine.id) ?? 0,
    })),
    held: await heldMachines(read, regionId, now),
  };
}

/** Open ones, of the few machines that have any; what is critical keeps a machine from being free at all. */
async function warningsOf(read: Reader): Promise<Map<string, number>> {
  const rows = await read
    .selectFrom('machine_issues')
    .select(({ fn }) => ['machine_id', fn.countAll<number>().as('count')])
    .where('resolved_at', 'is', null)
    .where('severity', '=', 'warning')
    .groupBy('machine_id')
    .execute();
  return new Map(rows.map(({ machine_id, count }) => [machine_id, count]));
}

async function disksOf(read: Reader, regionId: string): Promise<Map<string, (Disk & { machine_id: string })[]>> {
  const rows = await read
    .selectFrom('machine_disks')
    .innerJoin('machines', 'machines.id', 'machine_disks.machine_id')
    .innerJoin('racks', 'racks.id', 'machines.rack_id')
    .select(['machine_id', 'machine_disks.name', 'bytes', 'type', 'machine_disks.serial'])
    .where('racks.region_id', '=', regionId)
    .where('machines.state', 'in', ['available', 'ready'])
    .execute();
  return Map.groupBy(rows, ({ machine_id }) => machine_id);
}

export function freeDisks(ruleText: string, disks: readonly Disk[]): FreeDisks {
  const machineRule = JSON.parse(ruleText) as DiskRule;
  // Serial numbers tell machines apart that are as good as each other, unless a rule names one.
  const bySerial = machineRule.serial !== undefined;
  const kinds = disks.map(({ bytes, type, serial }) => `${type} ${String(bytes)}${bySerial ? ` ${serial}` : ''}`);
  return {
    kind: [ruleText, ...kinds.sort()].join(';'),
    rootGib(layout) {
      const plan = planDisks({ layout, machineRule, disks });
      return plan.kind === 'plan' ? Math.floor(plan.rootBytes / GIB) : undefined;
    },
  };
}

async function heldMachines(read: Reader, regionId: string, now: Millis): Promise<FreeFleet['held']> {
  const held = await read
    .selectFrom('allocations')
    .innerJoin('machines', 'machines.id', 'allocations.machine_id')
    .innerJoin('racks', 'racks.id', 'machines.rack_id')
    .select(['machines.rack_id', 'machines.state', 'racks.power_feed', 'allocations.tenant_id', 'claimed_at'])
    .select((eb) => firstPort(eb).as('switch_port'))
    .where('racks.region_id', '=', regionId)
    .execute();
  return held.map((machine) => {
    const isNew = machine.state === 'deploying' || machine.claimed_at > now - NEW_FOR;
    return { ...placeOf(machine), tenantId: machine.tenant_id, isNew };
  });
}

// A server's NICs are plugged in side by side; where they are not, one of them says where it stands.
function firstPort(eb: ExpressionBuilder<Database, 'machines'>) {
  return eb
    .selectFrom('machine_nics')
    .select((nics) => nics.fn.min('machine_nics.switch_port').as('port'))
    .whereRef('machine_nics.machine_id', '=', 'machines.id');
}

interface PlaceRow {
  readonly rack_id: string;
  readonly switch_port: string | null;
  readonly power_feed: string | null;
}

/** A port is named `sw-7/eth3`, or as the relay has it: what comes before the last slash names its switch. */
function placeOf({ rack_id, switch_port, power_feed }: PlaceRow): Place {
  const slash = switch_port?.lastIndexOf('/') ?? -1;
  const switchName = slash > 0 ? switch_port?.slice(0, slash) : undefined;
  return { rackId: rack_id, switchName, feed: power_feed ?? undefined };
}
