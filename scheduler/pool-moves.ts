import type { PoolTarget } from './pool-target.ts';

/** A machine of the pool's region and flavor. */
export interface PoolMachine {
  readonly machineId: string;
  readonly rackId: string;
  /** `other`: leased, being deployed or wiped, quarantined: nothing that the pool may touch. */
  readonly state: 'available' | 'warming' | 'ready' | 'other';
}

export interface PoolLimits {
  /** How many machines of one rack may be on their way up at once: what its power feed and its switch can bear. */
  readonly warmingPerRack: number;
  /** How many ready machines more than wanted are left alone, as a share of the target; at least one machine is. */
  readonly slack: number;
}

export const defaultPoolLimits: PoolLimits = { warmingPerRack: 4, slack: 0.1 };

export type PoolMovesReason =
  | { readonly kind: 'below-target'; readonly missing: number }
  /** This many machines of the rack wait until others of it are up. */
  | { readonly kind: 'rack-limit'; readonly rackId: string; readonly waiting: number }
  /** This many machines are missing, and none is free. */
  | { readonly kind: 'none-available'; readonly missing: number }
  | { readonly kind: 'above-target'; readonly surplus: number }
  /** There are more than the target says, but they will be wanted soon, or are too few to be worth a change. */
  | { readonly kind: 'kept'; readonly surplus: number };

export interface PoolMoves {
  /** Machines to power on, by id. */
  readonly warm: readonly string[];
  /** Machines to power off. */
  readonly drain: readonly string[];
  readonly reasons: readonly PoolMovesReason[];
}

/**
 * What brings the pool to its target: machines to warm while ready and warming together are fewer, machines to drain when they
 * are more than will be wanted soon and some slack (hysteresis: else every order and every new forecast would switch a machine).
 * Warm machines are spread: the next is of the rack with the fewest in the pool, and the next to go of that with the most. What is
 * warming is let come up, and is then drained. The same question has the same answer.
 */
export function poolMoves(
  { target, keep }: Pick<PoolTarget, 'target' | 'keep'>,
  machines: readonly PoolMachine[],
  limits: PoolLimits,
): PoolMoves {
  const pooled = machines.filter(({ state }) => state === 'ready' || state === 'warming').length;
  if (pooled < target) return warmed(target - pooled, machines, limits);
  const surplus = pooled - target;
  const excess = pooled - keep;
  if (surplus === 0) return { warm: [], drain: [], reasons: [] };
  if (excess <= Math.max(1, Math.floor(limits.slack * target))) {
    return { warm: [], drain: [], reasons: [{ kind: 'kept', surplus }] };
  }
  return { warm: [], drain: drained(excess, machines), reasons: [{ kind: 'above-target', surplus }] };
}

function warmed(missing: number, machines: readonly PoolMachine[], { warmingPerRack }: PoolLimits): PoolMoves {
  const racks = racksOf(machines);
  const warm: string[] = [];
  while (warm.length < missing) {
    const able = racks.filter(({ available, warming }) => available.length > 0 && warming < warmingPerRack);
    const rack = first(able, (a, b) => a.ready.length + a.warming - b.ready.length - b.warming);
    const machineId = rack?.available.shift();
    if (rack === undefined || machineId === undefined) break;
    rack.warming += 1;
    warm.push(machineId);
  }
  return { warm, drain: [], reasons: [{ kind: 'below-target', missing }, ...heldUp(missing - warm.length, racks)] };
}

function heldUp(short: number, racks: readonly Rack[]): PoolMovesReason[] {
  if (short === 0) return [];
  const full = racks.filter(({ available }) => available.length > 0);
  const reasons = full.map(({ rackId, available }) => {
    return { kind: 'rack-limit', rackId, waiting: available.length } as const;
  });
  const absent = short - full.reduce((sum, { available }) => sum + available.length, 0);
  return absent > 0 ? [...reasons, { kind: 'none-available', missing: absent }] : reasons;
}

function drained(excess: number, machines: readonly PoolMachine[]): string[] {
  const racks = racksOf(machines);
  const drain: string[] = [];
  while (drain.length < excess) {
    const able = racks.filter(({ ready }) => ready.length > 0);
    const rack = first(able, (a, b) => b.ready.length + b.warming - a.ready.length - a.warming);
    const machineId = rack?.ready.shift();
    if (machineId === undefined) break;
    drain.push(machineId);
  }
  return drain;
}

interface Rack {
  readonly rackId: string;
  /** Smaller ids first. */
  readonly available: string[];
  readonly ready: string[];
  warming: number;
}

function racksOf(machines: readonly PoolMachine[]): Rack[] {
  const groups = Map.groupBy(machines, ({ rackId }) => rackId);
  const racks = [...groups].map(([rackId, members]) => {
    const idsOf = (state: PoolMachine['state']) =>
      members.filter((machine) => machine.state === state).map(({ machineId }) => machineId);
    const [available, ready] = [idsOf('available').sort(), idsOf('ready').sort()];
    return { rackId, available, ready, warming: idsOf('warming').length };
  });
  return racks.sort((a, b) => (a.rackId < b.rackId ? -1 : 1));
}

/** Of those that compare as equal, the one with the smaller id: the sort is stable, and racks are sorted by it. */
function first(racks: readonly Rack[], compare: (a: Rack, b: Rack) => number): Rack | undefined {
  return racks.toSorted(compare)[0];
}
