import { reasonsOf } from '../../../scheduler/placement.ts';
import type { Placement, PlacementReasons } from '../../../scheduler/placement.ts';
import { SECOND } from '../../kernel/clock.ts';
import type { Clock, Millis } from '../../kernel/clock.ts';
import { RackstartError } from '../../kernel/errors.ts';
import type { StageTimes } from '../../kernel/stage-times.ts';
import { untimed } from '../../kernel/stage-times.ts';
import { freeMachines } from '../../machines/candidates.ts';
import type { Reader } from '../../store/store.ts';
import type { ServerSpec } from '../provider.ts';
import { Fleet } from './fleet.ts';

/** For how long a list serves before the next one is read; for as long again while that is being read. */
const LISTED_FOR: Millis = SECOND;

/**
 * Chooses machines for orders that come together: reading 10,000 of them takes 60 ms, and two orders that look at the same
 * list alone would choose the same machine. So a list serves all orders of a second, and each takes out what it chose. The
 * list may be behind: the claim decides.
 *
 * Until its claim is committed a machine looks free to all who read. So those under way are left out of what is read: on
 * PostgreSQL, where claims run side by side, 900 orders made 1,766 choices without that.
 */
export class PlacementDesk {
  readonly #times: StageTimes;
  /** By region. */
  readonly #lists = new Map<string, { readonly readAt: Millis; readonly fleet: Fleet }>();
  readonly #readings = new Map<string, { readonly taken: Map<string, string>; readonly fleet: Promise<Fleet> }>();
  /** The tenants that machines are being claimed for, by machine. */
  readonly #claims = new Map<string, string>();

  constructor(times = untimed) {
    this.#times = times;
  }

  /**
   * What `claim` makes of the machine that is chosen, and told of with the reasons. Undefined when it refused that: the list
   * is behind, and is read anew for the next choice.
   *
   * Errors: `placement.none` with the filter that left nothing, and the reason for one machine of each kind.
   */
  async choosing<T>(
    looking: Looking,
    spec: ServerSpec,
    claim: (chosen: PlacementReasons) => Promise<T | undefined>,
  ): Promise<T | undefined> {
    const chosen = await this.#times.timed('placement', () => this.#choose(looking, spec));
    try {
      const claimed = await claim(chosen);
      if (claimed === undefined) this.#lists.delete(spec.regionId);
      return claimed;
    } finally {
      this.#claims.delete(chosen.machineId);
    }
  }

  async #choose(looking: Looking, spec: ServerSpec): Promise<PlacementReasons> {
    const known = this.#lists.get(spec.regionId);
    const age = known === undefined ? Infinity : looking.clock.now() - known.readAt;
    if (known !== undefined && age >= 0 && age < 2 * LISTED_FOR) {
      if (age >= LISTED_FOR) this.#read(looking, spec.regionId).catch(() => undefined);
      const reasons = reasonsOf(this.#take(known.fleet, spec));
      if (reasons !== undefined) return reasons;
    }
    // Nothing is refused on the word of an old list; those that found nothing in the same moment read the next one together.
    const placement = this.#take(await this.#read(looking, spec.regionId), spec);
    const reasons = reasonsOf(placement);
    if (reasons !== undefined) return reasons;
    const { rejected, emptiedBy } = placement;
    const why = emptiedBy === undefined ? 'none is free' : `the last were left out as ${emptiedBy}`;
    throw new RackstartError('placement.none', `No machine of this region fits flavor ${spec.flavor.name}: ${why}.`, {
      details: { emptiedBy: emptiedBy ?? null, rejected: Object.fromEntries(rejected) },
    });
  }

  /** What is chosen is under way from the same moment. */
  #take(fleet: Fleet, spec: ServerSpec): Placement {
    const placement = fleet.choose(spec);
    if (placement.chosen !== undefined) {
      this.#claims.set(placement.chosen, spec.tenantId);
      this.#readings.get(spec.regionId)?.taken.set(placement.chosen, spec.tenantId);
    }
    return placement;
  }

  #read({ read, clock }: Looking, regionId: string): Promise<Fleet> {
    const underWay = this.#readings.get(regionId);
    if (underWay !== undefined) return underWay.fleet;
    const readAt = clock.now();
    // Those under way now, and those chosen meanwhile: whether they had been claimed when they were read, nobody knows.
    const taken = new Map(this.#claims);
    const fleet = freeMachines(read, regionId, readAt)
      .then((free) => {
        const ready = new Fleet(free, taken);
        this.#lists.set(regionId, { readAt, fleet: ready });
        return ready;
      })
      .finally(() => this.#readings.delete(regionId));
    this.#readings.set(regionId, { taken, fleet });
    return fleet;
  }
}

interface Looking {
  readonly read: Reader;
  readonly clock: Clock;
}
