import { place } from '../../../scheduler/placement.ts';
import type { Candidate } from '../../../scheduler/placement.ts';
import { SECOND } from '../../kernel/clock.ts';
import type { Clock, Millis } from '../../kernel/clock.ts';
import { RackstartError } from '../../kernel/errors.ts';
import { freeMachines } from '../../machines/candidates.ts';
import type { FreeFleet, FreeMachine } from '../../machines/candidates.ts';
import type { Reader } from '../../store/store.ts';
import type { ServerSpec } from '../provider.ts';

/**
 * Chooses machines for orders that come together: reading 10,000 of them takes 60 ms, and two orders that look at the same
 * list alone would choose the same machine. So a list serves all orders of a second, and each takes out what it chose. The
 * list may be behind: the claim decides, and who is refused says so.
 */
export class PlacementDesk {
  /** By region. */
  readonly #lists = new Map<string, { readonly readAt: Millis; readonly fleet: Promise<Fleet> }>();

  /** Errors: `placement.none` with the reason for one machine of each kind. */
  async choose({ read, clock }: Looking, spec: ServerSpec): Promise<string> {
    const known = this.#lists.get(spec.regionId);
    const age = known === undefined ? Infinity : clock.now() - known.readAt;
    const chosen =
      known !== undefined && age >= 0 && age < SECOND ? (await known.fleet).choose(spec).chosen : undefined;
    if (chosen !== undefined) return chosen;
    // Nothing is refused on the word of an old list; those that found nothing in the same moment read the next one together.
    const next = this.#lists.get(spec.regionId);
    const fleet = next === known || next === undefined ? this.#read({ read, clock }, spec.regionId) : next.fleet;
    const fresh = (await fleet).choose(spec);
    if (fresh.chosen !== undefined) return fresh.chosen;
    throw new RackstartError('placement.none', `No free machine fits flavor ${spec.flavor.name} in this region.`, {
      details: { rejected: Object.fromEntries(fresh.rejected) },
    });
  }

  /** What was chosen could not be claimed: the list is behind. */
  refused(regionId: string): void {
    this.#lists.delete(regionId);
  }

  #read({ read, clock }: Looking, regionId: string): Promise<Fleet> {
    const list = { readAt: clock.now(), fleet: freeMachines(read, regionId).then((free) => new Fleet(free)) };
    this.#lists.set(regionId, list);
    list.fleet.catch(() => this.refused(regionId));
    return list.fleet;
  }
}

interface Looking {
  readonly read: Reader;
  readonly clock: Clock;
}

/** The free machines of a region by kind: those of one kind and rack are as good as each other, and the smallest id goes first. */
class Fleet {
  readonly #kinds: readonly FreeMachine[][];
  readonly #deploying = new Counts();
  readonly #tenants = new Map<string, Counts>();

  constructor({ machines, held }: FreeFleet) {
    const kindOf = ({ rackId, cores, memoryMib, diskGib, nics, ready }: FreeMachine) =>
      [rackId, cores, memoryMib, diskGib, nics, ready].join(' ');
    this.#kinds = [...Map.groupBy(machines, kindOf).values()];
    for (const kind of this.#kinds) kind.sort((a, b) => (a.machineId > b.machineId ? -1 : 1));
    for (const { rackId, tenantId, isNew } of held) this.#count(rackId, tenantId, isNew);
  }

  /** Takes the chosen one out. */
  choose({ flavor, tenantId }: ServerSpec): ReturnType<typeof place> {
    const shape = { cores: flavor.cores, memoryMib: flavor.memory_mib, diskGib: flavor.disk_gib };
    const placement = place({ ...shape, nics: flavor.nics === 'separate' ? 2 : 1 }, this.#candidates(tenantId));
    const kind = this.#kinds.find((some) => some.at(-1)?.machineId === placement.chosen);
    const machine = kind?.pop();
    if (machine !== undefined) this.#count(machine.rackId, tenantId, true);
    return placement;
  }

  #candidates(tenantId: string): Candidate[] {
    const own = this.#tenants.get(tenantId);
    return this.#kinds.flatMap((kind) => {
      const machine = kind.at(-1);
      if (machine === undefined) return [];
      const { rackId } = machine;
      return [{ ...machine, tenantInRack: own?.of(rackId) ?? 0, newInRack: this.#deploying.of(rackId) }];
    });
  }

  #count(rackId: string, tenantId: string, isNew: boolean): void {
    if (isNew) this.#deploying.add(rackId);
    const own = this.#tenants.get(tenantId) ?? new Counts();
    this.#tenants.set(tenantId, own);
    own.add(rackId);
  }
}

class Counts {
  readonly #counts = new Map<string, number>();

  of(key: string): number {
    return this.#counts.get(key) ?? 0;
  }

  add(key: string): void {
    this.#counts.set(key, this.of(key) + 1);
  }
}
