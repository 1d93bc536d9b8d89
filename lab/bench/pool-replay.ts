import { defaultPoolLimits, poolMoves } from '../../scheduler/pool-moves.ts';
import type { PoolMachine } from '../../scheduler/pool-moves.ts';
import { seededRandom } from '../loss/seeded-random.ts';
import type { Demand } from '../traces/demand.ts';

/** How many machines should wait at a moment (seconds from the trace's beginning), and up to how many are kept. */
export type PoolPolicyAt = (at: number) => { readonly target: number; readonly keep: number };

/** What a policy made of a trace, from the day on from which it counts. */
export interface Replayed {
  readonly orders: number;
  /** Orders that found a machine ready. */
  readonly hits: number;
  /** Machine-hours that were powered and served nobody: ready, or warming. */
  readonly idleHours: number;
  /** Machines powered on for the pool. */
  readonly powerOns: number;
}

const REVIEW_S = 300;

/** A warm-up takes 8 to 12 minutes: what is planned with is the longer one. */
export const WARM_UP_S = { least: 480, most: 720 } as const;

const RACK = 20;

/**
 * A pool through a trace: reviewed every five minutes and after every order by `poolMoves`, machines drawn seeded warm-ups, and an
 * order takes a ready machine (a hit) or a cold one. The fleet stands in racks of 20; a machine that is taken is replaced by a cold
 * one at once, so that no policy runs out of machines to warm.
 */
export function replay(
  { orders, capacity }: Pick<Demand, 'orders' | 'capacity'>,
  policy: PoolPolicyAt,
  { countFrom, until }: { readonly countFrom: number; readonly until: number },
): Replayed {
  const chance = seededRandom(7);
  const pool = new Pool(capacity);
  const counted = { orders: 0, hits: 0, idleHours: 0, powerOns: 0 };
  let [now, next] = [0, 0];
  let wish = policy(0);

  const passTo = (at: number) => {
    const from = Math.max(now, countFrom);
    if (at > from) counted.idleHours += (pool.powered * (at - from)) / 3_600;
    now = at;
  };
  const review = () => {
    if (pool.powered === wish.target) return;
    const { warm, drain } = poolMoves(wish, pool.machines, defaultPoolLimits);
    for (const id of warm) pool.warm(id, now + WARM_UP_S.least + (WARM_UP_S.most - WARM_UP_S.least) * chance());
    for (const id of drain) pool.drain(id);
    if (now >= countFrom) counted.powerOns += warm.length;
  };

  for (let reviewed = 0; now < until;) {
    const order = orders[next] ?? Infinity;
    const at = Math.min(order, reviewed + REVIEW_S, pool.nextUp, until);
    passTo(at);
    if (at === pool.nextUp) {
      pool.up();
    } else if (at === order) {
      next += 1;
      const isHit = pool.take();
      if (at >= countFrom) {
        counted.orders += 1;
        counted.hits += isHit ? 1 : 0;
      }
      review();
    } else if (at < until) {
      reviewed = at;
      wish = policy(at);
      review();
    }
  }
  return counted;
}

/** The machines of one region and flavor that nobody has. */
class Pool {
  readonly machines: readonly Machine[];
  /** On their way up, the first to arrive in front. */
  #rising: { readonly machine: Machine; readonly at: number }[] = [];
  #ready = 0;

  constructor(capacity: number) {
    const name = (index: number) => String(index).padStart(4, '0');
    this.machines = Array.from({ length: capacity }, (_, index) => {
      return { machineId: name(index), rackId: name(Math.floor(index / RACK)), state: 'available' };
    });
  }

  /** Ready or on their way. */
  get powered(): number {
    return this.#ready + this.#rising.length;
  }

  get nextUp(): number {
    return this.#rising[0]?.at ?? Infinity;
  }

  warm(machineId: string, at: number): void {
    const machine = this.#machine(machineId);
    machine.state = 'warming';
    this.#rising = [...this.#rising, { machine, at }].sort((a, b) => a.at - b.at);
  }

  up(): void {
    const first = this.#rising.shift();
    if (first === undefined) return;
    first.machine.state = 'ready';
    this.#ready += 1;
  }

  drain(machineId: string): void {
    this.#machine(machineId).state = 'available';
    this.#ready -= 1;
  }

  /** Whether a ready machine could be had. */
  take(): boolean {
    const machine = this.machines.find(({ state }) => state === 'ready');
    if (machine === undefined) return false;
    this.drain(machine.machineId);
    return true;
  }

  #machine(machineId: string): Machine {
    return this.machines[Number(machineId)]!;
  }
}

interface Machine extends Omit<PoolMachine, 'state'> {
  state: PoolMachine['state'];
}
