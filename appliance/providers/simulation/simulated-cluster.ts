import type { Compilable } from 'kysely';

import type { Clock, Millis } from '../../kernel/clock.ts';
import { RackstartError } from '../../kernel/errors.ts';
import { draw, triangular } from '../../kernel/seeded.ts';
import type { Triangle } from '../../kernel/seeded.ts';
import type { SimulatedResourceRow } from '../../store/schema.ts';
import type { Store, Tx } from '../../store/store.ts';
import type { ShapeName } from './shapes.ts';

/** What a cluster is asked to do; `start` is what takes its time after it was accepted. */
export type Operation = 'create' | 'start' | 'find' | 'delete' | 'probe';

/**
 * How a call may go wrong. passing: an error that a later try may not meet; permanent: a refusal; hang: no answer at all;
 * lies: success is reported, and nothing was done. The first and the third may strike before the effect or behind it.
 */
export type FaultKind = 'passing' | 'permanent' | 'hang' | 'lies';

export type FailureRates = Partial<Record<Exclude<Operation, 'start'>, Partial<Record<FaultKind, number>>>>;

export interface SimulatedClusterSettings {
  readonly name: string;
  readonly shape: ShapeName;
  /** Undefined: it serves all. */
  readonly region: string | undefined;
  /** All chance follows from it, the key of the resource and the number of the try. */
  readonly seed: string;
  readonly delays: Readonly<Record<Operation, Triangle>>;
  /** Shares of calls, in [0, 1]. */
  readonly failureRates: FailureRates;
}

/** What a real cluster's control plane takes under no load: a call is answered soon, a machine runs after some seconds. */
export const usualDelays: Readonly<Record<Operation, Triangle>> = {
  create: { least: 40, usual: 120, most: 800 },
  start: { least: 3_000, usual: 8_000, most: 25_000 },
  find: { least: 10, usual: 30, most: 200 },
  delete: { least: 40, usual: 120, most: 800 },
  probe: { least: 5, usual: 20, most: 200 },
};

/** Who asks, and how often the same was asked before: a fault that passes is drawn anew for each try. */
export interface Call {
  readonly kind: string;
  readonly name: string;
  readonly tries: number;
  readonly signal: AbortSignal;
}

export interface NewResource {
  readonly id: string;
  readonly tenantId: string;
  readonly details: object;
  readonly starts: boolean;
}

/**
 * A cluster that is not there. What it holds is kept as a real one's would be, on its own: no lease of a saga fences it, and
 * it outlives the process that asked for it. Each call takes its time, and may go wrong.
 *
 * Errors: `provider.unavailable`, `provider.refused`, and the signal's reason.
 */
export class SimulatedCluster {
  readonly settings: SimulatedClusterSettings;
  readonly #store: Store;
  readonly #clock: Clock;

  constructor({ store, clock }: { store: Store; clock: Clock }, settings: SimulatedClusterSettings) {
    this.settings = settings;
    this.#store = store;
    this.#clock = clock;
  }

  /** One more under the same kind and name is the one that is there. */
  async create(call: Call, { id, tenantId, details, starts }: NewResource): Promise<void> {
    await this.#answer('create', call, async (answerAt) => {
      const row = { cluster: this.settings.name, kind: call.kind, name: call.name, id, tenant_id: tenantId };
      const readyAt = answerAt + (starts ? this.#delay('start', call) : 0);
      await this.#send(call, (tx) =>
        tx
          .insertInto('simulated_resources')
          .values({ ...row, details: JSON.stringify(details), created_at: answerAt, ready_at: readyAt })
          .onConflict((conflict) => conflict.doNothing()),
      );
    });
  }

  async find(call: Call): Promise<SimulatedResourceRow | undefined> {
    let found: SimulatedResourceRow | undefined;
    await this.#answer('find', call, async () => {
      found = await this.see(call);
    });
    return found;
  }

  async delete(call: Call): Promise<void> {
    await this.#answer('delete', call, async () => {
      await this.#send(call, (tx) =>
        tx
          .deleteFrom('simulated_resources')
          .where('cluster', '=', this.settings.name)
          .where('kind', '=', call.kind)
          .where('name', '=', call.name),
      );
    });
  }

  /** Whether the server itself answers; a lie says that it does. */
  async probe(call: Call): Promise<void> {
    await this.#answer('probe', call, () => Promise.resolve());
  }

  /** What is there, without asking the cluster: nothing takes time or goes wrong. */
  see({ kind, name }: Pick<Call, 'kind' | 'name'>): Promise<SimulatedResourceRow | undefined> {
    return this.#rows().where('kind', '=', kind).where('name', '=', name).executeTakeFirst();
  }

  /** All, or those of these kinds and names: both are in the key, and by names alone a cluster's every row would be read. */
  seeAll(among?: readonly Pick<Call, 'kind' | 'name'>[]): Promise<SimulatedResourceRow[]> {
    const rows = this.#rows();
    if (among === undefined) return rows.execute();
    const [kinds, names] = [among.map(({ kind }) => kind), among.map(({ name }) => name)];
    return rows.where('kind', 'in', kinds).where('name', 'in', names).execute();
  }

  #rows() {
    return this.#store.read.selectFrom('simulated_resources').selectAll().where('cluster', '=', this.settings.name);
  }

  async #answer(
    operation: Exclude<Operation, 'start'>,
    call: Call,
    effect: (answerAt: Millis) => Promise<void>,
  ): Promise<void> {
    const { signal } = call;
    const fault = this.#fault(operation, call);
    const delay = this.#delay(operation, call);
    const answerAt = this.#clock.now() + delay;
    const strikesBefore = this.#draw('before', operation, call) < 0.5;
    const happens = fault === undefined || ((fault === 'passing' || fault === 'hang') && !strikesBefore);
    // In the midst of the call: what it takes to keep what the cluster holds is part of the time that the call takes.
    await this.#sleepUntil(answerAt - Math.floor(delay / 2), signal);
    if (happens) await effect(answerAt);
    await this.#sleepUntil(fault === 'hang' ? Infinity : answerAt, signal);
    const what = `${operation} ${call.kind} at ${this.settings.name}`;
    if (fault === 'permanent') throw new RackstartError('provider.refused', `${what}: simulated refusal`);
    if (fault === 'passing') throw new RackstartError('provider.unavailable', `${what}: simulated failure`);
  }

  /** As a real client: what was told to stop before there is a connection for it is not sent. */
  async #send({ signal }: Call, effect: (tx: Tx) => Compilable): Promise<void> {
    await this.#store.transaction(async (tx) => {
      signal.throwIfAborted();
      tx.defer(effect(tx));
    });
  }

  #fault(operation: Exclude<Operation, 'start'>, call: Call): FaultKind | undefined {
    const rates = Object.entries(this.settings.failureRates[operation] ?? {}) as [FaultKind, number][];
    let chance = this.#draw('fault', operation, call);
    return rates.find(([, rate]) => (chance -= rate) < 0)?.[0];
  }

  #delay(operation: Operation, call: Call): Millis {
    return Math.round(triangular(this.settings.delays[operation], this.#draw('delay', operation, call)));
  }

  #draw(what: string, operation: Operation, { kind, name, tries }: Call): number {
    return draw(this.settings.seed, this.settings.name, what, operation, kind, name, tries);
  }

  async #sleepUntil(at: Millis, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (at > this.#clock.now()) await this.#clock.sleepUntil(at, signal);
  }
}
