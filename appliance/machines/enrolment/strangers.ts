import type { Inspection } from '../../../pxe/boot-plan.ts';
import type { DiscoveredMachineRow } from '../../store/schema.ts';
import type { Reader } from '../../store/store.ts';
import type { KnownWorld, Stranger } from './matching.ts';

/** Machines that have told of themselves and wait. */
async function waitingStrangers(read: Reader): Promise<Stranger[]> {
  const rows = await read
    .selectFrom('discovered_machines')
    .innerJoin('subnets', 'subnets.id', 'discovered_machines.subnet_id')
    .selectAll('discovered_machines')
    .select('subnets.region_id')
    .where('state', '=', 'waiting')
    .orderBy('discovered_machines.id')
    .execute();
  return rows.flatMap(({ region_id: regionId, ...row }) => {
    const facts = factsOf(row);
    return facts === undefined ? [] : [{ row, regionId, facts }];
  });
}

/** What it told; undefined before it has. */
export function factsOf({ facts }: Pick<DiscoveredMachineRow, 'facts'>): Inspection | undefined {
  return facts === null ? undefined : (JSON.parse(facts) as Inspection);
}

/** All that a stranger is held against. */
export async function knownWorld(read: Reader): Promise<KnownWorld> {
  return {
    machines: await enrolledMachines(read),
    strangers: await waitingStrangers(read),
    expected: await read
      .selectFrom('expected_machines')
      .innerJoin('racks', 'racks.id', 'expected_machines.rack_id')
      .selectAll('expected_machines')
      .select('racks.region_id')
      .execute(),
    rules: await read
      .selectFrom('accept_rules')
      .innerJoin('racks', 'racks.id', 'accept_rules.rack_id')
      .selectAll('accept_rules')
      .select('racks.region_id')
      .orderBy('accept_rules.name')
      .execute(),
  };
}

export async function enrolledMachines(read: Reader): Promise<KnownWorld['machines']> {
  const machines = await read.selectFrom('machines').select(['id', 'name', 'serial', 'smbios_uuid']).execute();
  const nics = await read.selectFrom('machine_nics').select(['mac', 'machine_id']).execute();
  const macs = Map.groupBy(nics, ({ machine_id }) => machine_id);
  return machines.map((machine) => ({ ...machine, macs: (macs.get(machine.id) ?? []).map(({ mac }) => mac) }));
}
