import { flavorOfMachine } from '../../scheduler/pool-membership.ts';
import type { Shape } from '../../scheduler/pool-membership.ts';
import { freeDisks } from '../machines/candidates.ts';
import type { FreeDisks } from '../machines/candidates.ts';
import { layoutOf } from '../machines/disk-layout.ts';
import type { FlavorRow } from '../store/schema.ts';
import type { Reader } from '../store/store.ts';
import type { PoolKey } from './demand.ts';

export interface PoolMember extends PoolKey {
  readonly machineId: string;
  readonly rackId: string;
  readonly model: string | null;
}

/**
 * Every machine that is, or will again be, of use, in the pool of the flavor that suits it best. One that was never inspected, is
 * set aside or retired is in none, nor is one that no flavor fits. `only`: of this machine alone.
 */
export async function poolMembers(read: Reader, only?: string): Promise<readonly PoolMember[]> {
  const machines = await read
    .selectFrom('machines')
    .innerJoin('racks', 'racks.id', 'machines.rack_id')
    .select(['machines.id', 'rack_id', 'region_id', 'model', 'cores', 'memory_mib', 'disk_rule'])
    .select((eb) =>
      eb
        .selectFrom('machine_nics')
        .select((nics) => nics.fn.countAll<number>().as('count'))
        .whereRef('machine_nics.machine_id', '=', 'machines.id')
        .as('nic_count'),
    )
    .where('state', 'in', ['available', 'warming', 'ready', 'deploying', 'deployed', 'releasing'])
    .$if(only !== undefined, (query) => query.where('machines.id', '=', only ?? ''))
    .orderBy('machines.id')
    .execute();
  const disks = Map.groupBy(
    await read
      .selectFrom('machine_disks')
      .select(['machine_id', 'name', 'bytes', 'type', 'serial'])
      .$if(only !== undefined, (query) => query.where('machine_id', '=', only ?? ''))
      .execute(),
    ({ machine_id }) => machine_id,
  );
  const flavors = await read.selectFrom('flavors').selectAll().execute();
  // Machines come in batches: of ten thousand some ten kinds are looked at.
  const flavorOfKind = new Map<string, string | undefined>();
  return machines.flatMap((row) => {
    const shape = { cores: row.cores ?? 0, memoryMib: row.memory_mib ?? 0, nics: row.nic_count ?? 0 };
    const own = freeDisks(row.disk_rule, disks.get(row.id) ?? []);
    const kind = [shape.cores, shape.memoryMib, shape.nics, own.kind].join(' ');
    if (!flavorOfKind.has(kind)) flavorOfKind.set(kind, bestFlavor(shape, own, flavors));
    const flavorId = flavorOfKind.get(kind);
    const place = { machineId: row.id, rackId: row.rack_id, regionId: row.region_id, model: row.model };
    return flavorId === undefined ? [] : [{ ...place, flavorId }];
  });
}

function bestFlavor(shape: Shape, disks: FreeDisks, flavors: readonly FlavorRow[]): string | undefined {
  const servings = flavors.map((flavor) => ({
    flavorId: flavor.id,
    request: {
      ...{ cores: flavor.cores, memoryMib: flavor.memory_mib, diskGib: flavor.disk_gib },
      nics: flavor.nics === 'separate' ? 2 : 1,
    },
    diskGib: disks.rootGib(layoutOf(flavor)),
  }));
  return flavorOfMachine(shape, servings);
}
