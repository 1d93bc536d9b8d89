import { defaultPoolLimits, poolMoves } from '../../scheduler/pool-moves.ts';
import type { PoolLimits, PoolMachine, PoolMovesReason } from '../../scheduler/pool-moves.ts';
import { defaultPoolPolicy, limitsOf, poolTarget } from '../../scheduler/pool-target.ts';
import type { PoolPolicy, PoolTargetReason } from '../../scheduler/pool-target.ts';
import { warmUp } from '../../scheduler/warm-up.ts';
import type { WarmUp } from '../../scheduler/warm-up.ts';
import { HOUR, MINUTE, SECOND } from '../kernel/clock.ts';
import type { Clock, Millis } from '../kernel/clock.ts';
import { asRackstartError, hasCode } from '../kernel/errors.ts';
import type { Log } from '../kernel/log.ts';
import type { Service } from '../kernel/service.ts';
import type { Store, Tx } from '../store/store.ts';
import { chooseInThread } from './choose-method.ts';
import { Demand, keyOf } from './demand.ts';
import type { PoolKey } from './demand.ts';
import { PoolForecasts } from './pool-forecasts.ts';
import { poolMembers } from './pool-members.ts';
import type { PoolMember } from './pool-members.ts';
import type { Warmed } from './warm-ups.ts';
import { warmUps } from './warm-ups.ts';

/** What moves machines in and out of the pool; `ReadyPool`. */
export interface PoolDoors {
  warmMachine(tx: Tx, machineId: string): Promise<void>;
  drainMachine(tx: Tx, machineId: string): Promise<void>;
}

export interface PoolKeeperDeps {
  readonly store: Store;
  readonly forecasts: PoolForecasts;
  readonly doors: PoolDoors;
  readonly clock: Clock;
  readonly log: Log;
}

export interface PoolKeeperOptions {
  readonly policy: PoolPolicy;
  readonly limits?: PoolLimits;
}

/** What people set of it; `warmUp` in ms, until it was measured, floor and ceiling as shares of the capacity. */
export interface PoolSettings {
  readonly serviceLevel: number;
  readonly floor: number;
  readonly ceiling: number;
  readonly warmUp: Millis;
  readonly warmingPerRack: number;
}

/** The keeper of a daemon: its forecasts are of the orders in its database, their methods chosen in a thread. */
export function poolKeeper(
  { serviceLevel, floor, ceiling, warmUp: warmUpMs, warmingPerRack }: PoolSettings,
  deps: Omit<PoolKeeperDeps, 'forecasts'>,
): PoolKeeper {
  const forecasts = new PoolForecasts(new Demand(deps.store.read), chooseInThread);
  const policy = { ...defaultPoolPolicy, serviceLevel, floor, ceiling, warmUpMs };
  return new PoolKeeper({ ...deps, forecasts }, { policy, limits: { ...defaultPoolLimits, warmingPerRack } });
}

/** One pool as it was last looked at, and why it is to be as large as it is. */
export interface PoolView extends PoolKey {
  /** Machines of the region that count to the flavor, whatever they do. */
  readonly capacity: number;
  readonly available: number;
  readonly warming: number;
  readonly ready: number;
  readonly target: number;
  readonly keep: number;
  /** In machines: what the target never falls below, and never exceeds. */
  readonly floor: number;
  readonly ceiling: number;
  readonly warmUp: WarmUp;
  readonly reasons: readonly PoolTargetReason[];
  readonly moves: readonly PoolMovesReason[];
  readonly at: Millis;
}

/** An order that takes a ready machine is made up for within this time, and the 8 to 12 min that warming takes. */
const PERIOD: Millis = 10 * SECOND;

/** How often machines are matched with flavors anew; a machine that was not known is matched at once. */
const MATCH_EVERY: Millis = HOUR;

/** How often it is read what machines took to get warm. */
const MEASURE_EVERY: Millis = 10 * MINUTE;

/** A machine that did not get warm is not tried again before; others take its place meanwhile. */
const COOLING: Millis = 15 * MINUTE;

/**
 * Keeps every pool at its target: machines of a flavor that wait, powered and checked, for the orders that the forecast expects.
 * It holds nothing that is not read or worked out again, and takes no input. Several daemons on one database come to the same
 * moves, and whoever is second finds them made.
 */
export class PoolKeeper implements Service {
  readonly name = 'pool-keeper';
  readonly #deps: PoolKeeperDeps;
  readonly #policy: PoolPolicy;
  readonly #limits: PoolLimits;
  #members: readonly PoolMember[] = [];
  #matchedAt = -Infinity;
  #warmed: readonly Warmed[] = [];
  #measuredAt = -Infinity;
  #pools: readonly PoolView[] = [];
  /** Machines that were on their way up when they were last looked at. */
  #warming = new Set<string>();
  readonly #coolingUntil = new Map<string, Millis>();

  constructor(deps: PoolKeeperDeps, { policy, limits = defaultPoolLimits }: PoolKeeperOptions) {
    this.#deps = deps;
    this.#policy = policy;
    this.#limits = limits;
  }

  /** As they were last looked at; none before the first look. */
  get pools(): readonly PoolView[] {
    return this.#pools;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#deps;
    while (!signal.aborted) {
      try {
        await this.look(signal);
      } catch (cause) {
        signal.throwIfAborted();
        const error = asRackstartError(cause);
        log.warn({ error }, 'the pools could not be looked at; they stay as they are');
      }
      await clock.sleepUntil(clock.now() + PERIOD, signal).catch(() => undefined);
    }
  }

  /** Looks at every pool and begins what brings it to its target. */
  async look(signal: AbortSignal): Promise<void> {
    const { clock } = this.#deps;
    const states = await this.#states();
    await this.#match(states);
    await this.#measure();
    this.#cool(states);
    const pools: PoolView[] = [];
    const at = clock.now();
    for (const members of Map.groupBy(this.#members, keyOf).values()) {
      const machines = members.map((member) => this.#poolMachine(member, states.get(member.machineId)));
      const [first] = members;
      if (first === undefined) continue;
      const took = this.#warmUpOf(first, members);
      pools.push({ ...(await this.#keep(first, machines, took, signal)), at });
    }
    this.#pools = pools;
  }

  async #keep(
    { regionId, flavorId }: PoolKey,
    machines: readonly PoolMachine[],
    took: WarmUp,
    signal: AbortSignal,
  ): Promise<Omit<PoolView, 'at'>> {
    const { forecasts, clock } = this.#deps;
    const now = clock.now();
    const forecast = await forecasts.of({ regionId, flavorId }, { now, leadMs: took.milliseconds }, signal);
    const capacity = machines.length;
    const policy = { ...this.#policy, warmUpMs: took.milliseconds };
    const { target, keep, reasons } = poolTarget(forecast, { now, capacity, policy });
    const { warm, drain, reasons: moves } = poolMoves({ target, keep }, machines, this.#limits);
    for (const machineId of warm) if (await this.#move('warmMachine', machineId)) this.#warming.add(machineId);
    for (const machineId of drain) await this.#move('drainMachine', machineId);
    const count = (state: PoolMachine['state']) => machines.filter((machine) => machine.state === state).length;
    const counts = { available: count('available'), warming: count('warming'), ready: count('ready') };
    const limits = limitsOf(capacity, policy);
    return { regionId, flavorId, capacity, ...counts, target, keep, ...limits, warmUp: took, reasons, moves };
  }

  /** False when somebody else moved the machine first: it is looked at again. */
  async #move(way: keyof PoolDoors, machineId: string): Promise<boolean> {
    const { store, doors, log } = this.#deps;
    try {
      await store.transaction((tx) => doors[way](tx, machineId));
    } catch (error) {
      if (hasCode(error, 'state.conflict')) return false;
      throw error;
    }
    log.info({ machineId, way }, 'the pool is brought to its target');
    return true;
  }

  /** Of the machines that the pool may touch: idle, with a clean disk, or in the pool. */
  async #states(): Promise<ReadonlyMap<string, PoolMachine['state']>> {
    const rows = await this.#deps.store.read
      .selectFrom('machines')
      .select(['id', 'state'])
      .where((eb) =>
        eb.or([
          eb('state', 'in', ['warming', 'ready']),
          eb.and([eb('state', '=', 'available'), eb('disk_state', '=', 'clean')]),
        ]),
      )
      .execute();
    return new Map(rows.map(({ id, state }) => [id, state === 'warming' || state === 'ready' ? state : 'available']));
  }

  async #match(states: ReadonlyMap<string, unknown>): Promise<void> {
    const { store, clock } = this.#deps;
    const known = new Set(this.#members.map(({ machineId }) => machineId));
    const isKnown = [...states.keys()].every((machineId) => known.has(machineId));
    if (isKnown && clock.now() - this.#matchedAt < MATCH_EVERY) return;
    this.#members = await poolMembers(store.read);
    this.#matchedAt = clock.now();
  }

  async #measure(): Promise<void> {
    const { store, clock } = this.#deps;
    const now = clock.now();
    if (now - this.#measuredAt < MEASURE_EVERY) return;
    this.#warmed = await warmUps(store.read, now);
    this.#measuredAt = now;
  }

  /** By what machines of the pool's models took in its region. */
  #warmUpOf({ regionId }: PoolKey, members: readonly PoolMember[]): WarmUp {
    const models = new Set(members.map(({ model }) => model));
    const alike = this.#warmed.filter((warmed) => warmed.regionId === regionId && models.has(warmed.model));
    return warmUp(
      alike.map(({ milliseconds }) => milliseconds),
      this.#policy.warmUpMs,
    );
  }

  /** Notes the machines that were on their way up and are idle again, and those that are on their way now. */
  #cool(states: ReadonlyMap<string, PoolMachine['state']>): void {
    const now = this.#deps.clock.now();
    for (const [machineId, until] of this.#coolingUntil) if (until <= now) this.#coolingUntil.delete(machineId);
    for (const machineId of this.#warming) {
      if (states.get(machineId) === 'available') this.#coolingUntil.set(machineId, now + COOLING);
    }
    this.#warming = new Set([...states.keys()].filter((machineId) => states.get(machineId) === 'warming'));
  }

  #poolMachine({ machineId, rackId }: PoolMember, state: PoolMachine['state'] = 'other'): PoolMachine {
    const isCooling = state === 'available' && this.#coolingUntil.has(machineId);
    return { machineId, rackId, state: isCooling ? 'other' : state };
  }
}
