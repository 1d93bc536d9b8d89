import type { Candidate } from '../../scheduler/placement.ts';
import type { Reader } from '../store/store.ts';

const GIB = 1024 ** 3;

/**
 * The machines of a region that could be claimed now: inspected, idle, with a disk proven clean and a NIC that boots. How
 * crowded their racks are comes along, so that the choice itself needs no database.
 */
export async function freeMachines(read: Reader, regionId: string, tenantId: string): Promise<Candidate[]> {
  const machines = await read
    .selectFrom('machines')
    .innerJoin('racks', 'racks.id', 'machines.rack_id')
    .select(['machines.id', 'machines.rack_id', 'machines.state', 'machines.cores', 'machines.memory_mib'])
    .select((eb) => [
      eb
        .selectFrom('machine_disks')
        .select((disks) => disks.fn.max('machine_disks.bytes').as('bytes'))
        .whereRef('machine_disks.machine_id', '=', 'machines.id')
        .as('disk_bytes'),
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
  const crowding = await rackCrowding(read, regionId, tenantId);
  return machines.map((machine) => ({
    machineId: machine.id,
    rackId: machine.rack_id,
    cores: machine.cores ?? 0,
    memoryMib: machine.memory_mib ?? 0,
    diskGib: Math.floor((machine.disk_bytes ?? 0) / GIB),
    nics: machine.nic_count ?? 0,
    ready: machine.state === 'ready',
    ...(crowding.get(machine.rack_id) ?? { tenantInRack: 0, newInRack: 0 }),
  }));
}

type Crowding = Pick<Candidate, 'tenantInRack' | 'newInRack'>;

async function rackCrowding(read: Reader, regionId: string, tenantId: string): Promise<Map<string, Crowding>> {
  const held = await read
    .selectFrom('allocations')
    .innerJoin('machines', 'machines.id', 'allocations.machine_id')
    .innerJoin('racks', 'racks.id', 'machines.rack_id')
    .select(['machines.rack_id', 'machines.state', 'allocations.tenant_id'])
    .where('racks.region_id', '=', regionId)
    .execute();
  const crowding = new Map<string, Crowding>();
  for (const { rack_id, state, tenant_id } of held) {
    const before = crowding.get(rack_id) ?? { tenantInRack: 0, newInRack: 0 };
    crowding.set(rack_id, {
      tenantInRack: before.tenantInRack + (tenant_id === tenantId ? 1 : 0),
      newInRack: before.newInRack + (state === 'deploying' ? 1 : 0),
    });
  }
  return crowding;
}
