import type { Candidate } from '../../scheduler/placement.ts';
import type { MachineDiskRow } from '../store/schema.ts';
import type { Reader } from '../store/store.ts';
import type { DiskRule } from './enrol.ts';

const GIB = 1024 ** 3;

type Disk = Pick<MachineDiskRow, 'machine_id' | 'bytes' | 'type' | 'serial'>;

/** A machine that could be claimed now. */
export type FreeMachine = Omit<Candidate, 'tenantInRack' | 'newInRack'>;

/** What a choice needs to know of a region. */
export interface FreeFleet {
  readonly machines: readonly FreeMachine[];
  /** The machines that are held; `isNew` while they are being deployed. */
  readonly held: readonly { readonly rackId: string; readonly tenantId: string; readonly isNew: boolean }[];
}

/**
 * The machines of a region that could be claimed now: inspected, idle, with a disk proven clean and a NIC that boots. Who holds
 * the others comes along, so that the choice itself needs no database.
 */
export async function freeMachines(read: Reader, regionId: string): Promise<FreeFleet> {
  const machines = await read
    .selectFrom('machines')
    .innerJoin('racks', 'racks.id', 'machines.rack_id')
    .select(['machines.id', 'machines.rack_id', 'machines.state', 'machines.cores', 'machines.memory_mib'])
    .select((eb) => [
      'machines.disk_rule',
      eb
        .selectFrom('machine_nics')
        .select((nics) => nics.fn.countAll<number>().as('count'))
        .whereRef('machine_nics.machine_id', '=', 'machines.id')
        .as('nic_count'),
    ])
    .where('racks.region_id', '=', regionId)
    .where('machines.state', 'in', ['available', 'ready'])
    .where('machines.disk_state', '=', 'clean')
    .execute();
  const disks = await disksOf(read, regionId);
  return {
    machines: machines.map((machine) => ({
      machineId: machine.id,
      rackId: machine.rack_id,
      cores: machine.cores ?? 0,
      memoryMib: machine.memory_mib ?? 0,
      diskGib: rootDiskGib(JSON.parse(machine.disk_rule) as DiskRule, disks.get(machine.id) ?? []),
      nics: machine.nic_count ?? 0,
      ready: machine.state === 'ready',
    })),
    held: await heldMachines(read, regionId),
  };
}

async function disksOf(read: Reader, regionId: string): Promise<Map<string, Disk[]>> {
  const rows = await read
    .selectFrom('machine_disks')
    .innerJoin('machines', 'machines.id', 'machine_disks.machine_id')
    .innerJoin('racks', 'racks.id', 'machines.rack_id')
    .select(['machine_id', 'bytes', 'type', 'machine_disks.serial'])
    .where('racks.region_id', '=', regionId)
    .where('machines.state', 'in', ['available', 'ready'])
    .execute();
  return Map.groupBy(rows, ({ machine_id }) => machine_id);
}

/** The disk that an install would write; undefined when the rule picks none or several: the ramdisk would stop there. */
function rootDiskGib(rule: DiskRule, disks: readonly Disk[]): number | undefined {
  const [disk, ...others] = disks.filter(
    ({ bytes, serial, type }) =>
      bytes >= rule.minBytes &&
      bytes <= (rule.maxBytes ?? bytes) &&
      serial === (rule.serial ?? serial) &&
      type === (rule.type ?? type),
  );
  return disk === undefined || others.length > 0 ? undefined : Math.floor(disk.bytes / GIB);
}

async function heldMachines(read: Reader, regionId: string): Promise<FreeFleet['held']> {
  const held = await read
    .selectFrom('allocations')
    .innerJoin('machines', 'machines.id', 'allocations.machine_id')
    .innerJoin('racks', 'racks.id', 'machines.rack_id')
    .select(['machines.rack_id', 'machines.state', 'allocations.tenant_id'])
    .where('racks.region_id', '=', regionId)
    .execute();
  return held.map(({ rack_id, state, tenant_id }) => {
    return { rackId: rack_id, tenantId: tenant_id, isNew: state === 'deploying' };
  });
}
