import { draw } from '../../appliance/kernel/seeded.ts';
import type { Candidate, PlacementRequest } from '../../scheduler/placement.ts';

/** A machine in its place, which nobody holds yet. */
interface Machine {
  readonly machineId: string;
  readonly rackId: string;
  readonly switchId: string;
  readonly feedId: string;
  readonly shape: PlacementRequest;
  readonly ready: boolean;
  readonly warnings: number;
}

/** So many racks of as many machines; a switch serves two racks, a power feed ten. Racks are filled with one kind of machine each. */
export interface Hall {
  readonly racks: number;
  readonly perRack: number;
}

export interface Order {
  readonly tenantId: string;
  readonly request: PlacementRequest;
}

/** Which machine an order is given; undefined when none will do. */
export type Policy = (order: Order, candidates: readonly Candidate[], number: number) => string | undefined;

/** What a row of orders has come to. */
export interface Spread {
  readonly placed: number;
  /** Servers of one tenant in the rack that has most of them, in the mean of all tenants: what goes with that rack. */
  readonly tenantInRack: number;
  /** Machines that were deployed in one rack, where most were, among LATELY in a row; in the mean of all such moments. */
  readonly newInRack: number;
  /** The share of a machine that its order leaves unused, in the mean of all that were placed. */
  readonly waste: number;
}

/** So many deploys count as lately. */
const LATELY = 200;
const RACKS_OF_SWITCH = 2;
const RACKS_OF_FEED = 10;

const small: PlacementRequest = { cores: 16, memoryMib: 65_536, diskGib: 480, nics: 1 };
const medium: PlacementRequest = { cores: 32, memoryMib: 131_072, diskGib: 960, nics: 1 };
const large: PlacementRequest = { cores: 64, memoryMib: 262_144, diskGib: 1_920, nics: 1 };

/** Machines have somewhat more than is sold of them. */
const ROOM = 1.1;

/** By turns of the same chance for machines and orders: half are small, a third is medium. */
function shapeOf(chance: number): PlacementRequest {
  if (chance < 0.5) return small;
  return chance < 0.83 ? medium : large;
}

export function machinesOf({ racks, perRack }: Hall, seed: string): readonly Machine[] {
  return Array.from({ length: racks }, (_, rack) => {
    const { cores, memoryMib, diskGib } = shapeOf(draw(seed, 'rack', rack));
    const shape = { cores: cores * ROOM, memoryMib: memoryMib * ROOM, diskGib: diskGib * ROOM, nics: 1 };
    const place = {
      rackId: `rack-${String(rack)}`,
      switchId: `switch-${String(Math.floor(rack / RACKS_OF_SWITCH))}`,
      feedId: `feed-${String(Math.floor(rack / RACKS_OF_FEED))}`,
    };
    return Array.from({ length: perRack }, (_, unit) => ({
      ...{ machineId: `m-${String(rack).padStart(4, '0')}-${String(unit).padStart(2, '0')}`, ...place, shape },
      ready: draw(seed, 'ready', rack, unit) < 0.2,
      warnings: draw(seed, 'warning', rack, unit) < 0.02 ? 1 : 0,
    }));
  }).flat();
}

/** A few tenants order most: the square of a chance picks one. */
export function ordersOf(count: number, tenants: number, seed: string): readonly Order[] {
  return Array.from({ length: count }, (_, number) => ({
    tenantId: `tenant-${String(Math.floor(draw(seed, 'tenant', number) ** 2 * tenants))}`,
    request: shapeOf(draw(seed, 'shape', number)),
  }));
}

/** Gives each order a machine, one after the other, and keeps count of what is where. */
export class PlacementReplay {
  readonly #free: Map<string, Machine>;
  readonly #ofTenant = new Map<string, number>();
  readonly #lately: string[] = [];
  readonly #fullest: number[] = [];
  readonly #wasted: number[] = [];

  constructor(machines: readonly Machine[]) {
    this.#free = new Map(machines.map((machine) => [machine.machineId, machine]));
  }

  /** The free machines as that tenant's order finds them. */
  candidates({ tenantId }: Order): readonly Candidate[] {
    const lately = countOf(this.#lately);
    const of = (place: string) => this.#ofTenant.get(`${tenantId} ${place}`) ?? 0;
    return [...this.#free.values()].map(({ machineId, rackId, switchId, feedId, shape, ready, warnings }) => ({
      ...{ machineId, rackId, ...shape, ready, warnings, tried: false },
      ...{ tenantInRack: of(rackId), newInRack: lately.get(rackId) ?? 0 },
      ...{ tenantOnSwitch: of(switchId), tenantOnFeed: of(feedId) },
    }));
  }

  take({ tenantId, request }: Order, machineId: string): void {
    const machine = this.#free.get(machineId);
    if (machine === undefined) throw new Error(`${machineId} is not free`);
    this.#free.delete(machineId);
    for (const place of [machine.rackId, machine.switchId, machine.feedId]) {
      const key = `${tenantId} ${place}`;
      this.#ofTenant.set(key, (this.#ofTenant.get(key) ?? 0) + 1);
    }
    this.#lately.push(machine.rackId);
    if (this.#lately.length > LATELY) this.#lately.shift();
    this.#fullest.push(Math.max(...countOf(this.#lately).values()));
    this.#wasted.push(unused(machine.shape, request));
  }

  spread(): Spread {
    const fullest = new Map<string, number>();
    for (const [key, count] of this.#ofTenant) {
      const [tenantId = '', place = ''] = key.split(' ');
      if (place.startsWith('rack-')) fullest.set(tenantId, Math.max(count, fullest.get(tenantId) ?? 0));
    }
    return {
      placed: this.#wasted.length,
      tenantInRack: mean([...fullest.values()]),
      newInRack: mean(this.#fullest.slice(LATELY)),
      waste: mean(this.#wasted),
    };
  }
}

export function replay(machines: readonly Machine[], orders: readonly Order[], policy: Policy): Spread {
  const hall = new PlacementReplay(machines);
  for (const [number, order] of orders.entries()) {
    const machineId = policy(order, hall.candidates(order), number);
    if (machineId !== undefined) hall.take(order, machineId);
  }
  return hall.spread();
}

/** The tightest that the order fits in, wherever it stands. */
export const bestFit: Policy = ({ request }, candidates) => {
  let best: { readonly machineId: string; readonly waste: number } | undefined;
  for (const candidate of candidates) {
    if (!fits(request, candidate)) continue;
    const waste = unused(candidate, request);
    if (best === undefined || waste < best.waste) best = { machineId: candidate.machineId, waste };
  }
  return best?.machineId;
};

/** Any that the order fits in. */
export function anyOf(seed: string): Policy {
  return ({ request }, candidates, number) => {
    const fitting = candidates.filter((candidate) => fits(request, candidate));
    return fitting[Math.floor(draw(seed, 'any', number) * fitting.length)]?.machineId;
  };
}

type Size = Pick<Candidate, 'cores' | 'memoryMib' | 'diskGib'>;

function fits(request: PlacementRequest, { cores, memoryMib, diskGib = 0 }: Size): boolean {
  return cores >= request.cores && memoryMib >= request.memoryMib && diskGib >= request.diskGib;
}

function unused({ cores, memoryMib, diskGib = 0 }: Size, request: PlacementRequest): number {
  return 1 - (request.cores / cores + request.memoryMib / memoryMib + request.diskGib / diskGib) / 3;
}

function countOf(values: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return counts;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
