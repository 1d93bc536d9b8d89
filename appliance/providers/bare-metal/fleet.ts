import type { DiskLayout } from '../../../scheduler/disk-plan.ts';
import { place } from '../../../scheduler/placement.ts';
import type { Candidate, Placement } from '../../../scheduler/placement.ts';
import type { FreeFleet, FreeMachine, Place } from '../../machines/candidates.ts';
import { layoutOf } from '../../machines/disk-layout.ts';
import type { ServerSpec } from '../provider.ts';

/** What an order says of the machine that it needs. */
export type FleetOrder = Pick<ServerSpec, 'flavor' | 'tenantId' | 'avoid'>;

/** The free machines of a region by kind: those of one kind and place are as good as each other, and the smallest id goes first. */
export class Fleet {
  readonly #kinds: readonly FreeMachine[][];
  readonly #deploying = new Counts();
  readonly #tenants = new Map<string, Neighbours>();

  constructor({ machines, held }: FreeFleet, taken: ReadonlyMap<string, string>) {
    const kindOf = ({ rackId, switchName, feed, cores, memoryMib, disks, nics, ready, warnings }: FreeMachine) =>
      [rackId, switchName, feed, cores, memoryMib, disks.kind, nics, ready, warnings].join(' ');
    const free = machines.filter(({ machineId }) => !taken.has(machineId));
    this.#kinds = [...Map.groupBy(free, kindOf).values()];
    for (const kind of this.#kinds) kind.sort((a, b) => (a.machineId > b.machineId ? -1 : 1));
    for (const one of held) this.#count(one, one.tenantId, one.isNew);
    for (const machine of machines) {
      const tenantId = taken.get(machine.machineId);
      if (tenantId !== undefined) this.#count(machine, tenantId, true);
    }
  }

  /** Takes the chosen one out. */
  choose(order: FleetOrder): Placement {
    const { tenantId, avoid = [] } = order;
    // Where all of a kind were tried, one of them says so.
    const placement = this.#place(order, (kind) => [firstOf(kind, avoid) ?? kind.at(-1)]);
    const { chosen } = placement;
    if (chosen === undefined) return placement;
    const isChosen = ({ machineId }: FreeMachine) => machineId === chosen;
    const kind = this.#kinds.find((some) => firstOf(some, avoid)?.machineId === chosen);
    const [machine] = kind?.splice(kind.findLastIndex(isChosen), 1) ?? [];
    if (machine !== undefined) this.#count(machine, tenantId, true);
    return placement;
  }

  /** What would be chosen, with every machine by itself; none is taken out. */
  weigh(order: FleetOrder): Placement {
    return this.#place(order, (kind) => kind);
  }

  #place(
    { flavor, tenantId, avoid = [] }: FleetOrder,
    of: (kind: readonly FreeMachine[]) => readonly (FreeMachine | undefined)[],
  ): Placement {
    const shape = { cores: flavor.cores, memoryMib: flavor.memory_mib, diskGib: flavor.disk_gib };
    const nics = flavor.nics === 'separate' ? 2 : 1;
    const layout = layoutOf(flavor);
    const candidates = this.#kinds.flatMap((kind) =>
      of(kind).flatMap((machine) => (machine === undefined ? [] : this.#candidate(machine, tenantId, layout, avoid))),
    );
    return place({ ...shape, nics }, candidates);
  }

  #candidate(machine: FreeMachine, tenantId: string, layout: DiskLayout, avoid: readonly string[]): Candidate {
    const { machineId, rackId, switchName, feed, disks } = machine;
    const own = this.#tenants.get(tenantId);
    return {
      ...machine,
      diskGib: disks.rootGib(layout),
      tried: avoid.includes(machineId),
      tenantInRack: own?.racks.of(rackId) ?? 0,
      tenantOnSwitch: own?.switches.of(switchName) ?? 0,
      tenantOnFeed: own?.feeds.of(feed) ?? 0,
      newInRack: this.#deploying.of(rackId),
    };
  }

  #count({ rackId, switchName, feed }: Place, tenantId: string, isNew: boolean): void {
    if (isNew) this.#deploying.add(rackId);
    const own = this.#tenants.get(tenantId) ?? new Neighbours();
    this.#tenants.set(tenantId, own);
    own.racks.add(rackId);
    own.switches.add(switchName);
    own.feeds.add(feed);
  }
}

/** They are sorted with the smallest id last, where taking it out costs nothing. */
function firstOf(kind: readonly FreeMachine[], avoid: readonly string[]): FreeMachine | undefined {
  return avoid.length === 0 ? kind.at(-1) : kind.findLast(({ machineId }) => !avoid.includes(machineId));
}

/** Where a tenant's servers stand. */
class Neighbours {
  readonly racks = new Counts();
  readonly switches = new Counts();
  readonly feeds = new Counts();
}

class Counts {
  readonly #counts = new Map<string, number>();

  /** What has no name is nowhere. */
  of(key: string | undefined): number {
    return key === undefined ? 0 : (this.#counts.get(key) ?? 0);
  }

  add(key: string | undefined): void {
    if (key !== undefined) this.#counts.set(key, this.of(key) + 1);
  }
}
