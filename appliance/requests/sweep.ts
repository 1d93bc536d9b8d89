import type { EventLog } from '../events/event-log.ts';
import type { Clock, Millis } from '../kernel/clock.ts';
import { MINUTE } from '../kernel/clock.ts';
import { RackstartError, asRackstartError } from '../kernel/errors.ts';
import type { Ids } from '../kernel/ids.ts';
import type { Log } from '../kernel/log.ts';
import type { Service } from '../kernel/service.ts';
import type { Held, Provider, ProviderContext } from '../providers/provider.ts';
import type { Providers } from '../providers/providers.ts';
import type { OrphanRow } from '../store/schema.ts';
import type { Store } from '../store/store.ts';
import * as records from './sweep-records.ts';
import { ownedOf } from './sweep-owners.ts';

export interface SweepDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly providers: Providers;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
}

export interface SweepOptions {
  /** From when something is found until it is removed. */
  readonly grace: Millis;
  /** How often it looks; 5 minutes, or the grace where that is shorter. */
  readonly period?: Millis;
}

/** For what one provider is asked at a time: a cluster that hangs does not hold the sweep up for ever. */
const PATIENCE = 2 * MINUTE;

/**
 * Finds what a provider holds and no request owns, tells of it, and removes it when a time of grace is over in which nobody
 * came for it. What a request that lives could own is left alone, whatever state it is in: its own undo gives it back.
 *
 * Several daemons on one database may sweep at once: removing is idempotent, and one of them tells of it.
 */
export class Sweep implements Service {
  readonly name = 'sweep';
  readonly #deps: SweepDeps;
  readonly #grace: Millis;
  readonly #period: Millis;

  constructor(deps: SweepDeps, { grace, period = Math.min(5 * MINUTE, grace) }: SweepOptions) {
    this.#deps = deps;
    this.#grace = grace;
    this.#period = period;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#deps;
    while (!signal.aborted) {
      await this.look(signal);
      await clock.sleepUntil(clock.now() + this.#period, signal).catch(() => undefined);
    }
  }

  /** Looks at every provider that lists its holdings, at each on its own: one that does not answer hides no other's. */
  async look(signal: AbortSignal): Promise<void> {
    const { providers, log } = this.#deps;
    const able = providers.all.filter(({ capabilities }) => capabilities.listsHoldings);
    await Promise.all(
      able.map(async (provider) => {
        try {
          await this.#sweep(provider, signal);
        } catch (error) {
          if (signal.aborted) return;
          const { code, message } = asRackstartError(error);
          log.warn({ provider: provider.type, code, reason: message }, 'what nobody owns is looked for again later');
        }
      }),
    );
  }

  async #sweep(provider: Provider, signal: AbortSignal): Promise<void> {
    const { store, clock, log } = this.#deps;
    const { type } = provider;
    const holdings = await this.#ask(signal, (ctx) => provider.holdings(ctx));
    // Owners are read behind the holdings: whoever makes something writes that down before, and so is seen here.
    const owned = await ownedOf(store.read, holdings);
    const there = new Map(holdings.map((held) => [records.nameOf(held), held]));
    const orphans = await records.orphansOf(store.read, type);
    const known = new Set(orphans.map(records.nameOfOrphan));

    const strange = [...there].filter(([name, held]) => !owned.has(held) && !known.has(name));
    for (const held of await this.#stillThere(provider, new Map(strange), signal)) {
      if (!(await this.#found(type, held))) continue;
      log.warn({ provider: type, ...held, removedIn: this.#grace }, 'something is held that nobody owns');
    }
    for (const orphan of orphans) {
      const held = there.get(records.nameOfOrphan(orphan));
      if (held === undefined) await this.#end(orphan, 'gone');
      else if (owned.has(held)) await this.#end(orphan, 'owned');
      else if (orphan.remove_at <= clock.now()) await this.#remove(provider, orphan, held, signal);
    }
  }

  /** What its request gave back between the two looks, at what is held and at who owns it, has lost its owner and is gone. */
  async #stillThere(provider: Provider, strange: ReadonlyMap<string, Held>, signal: AbortSignal): Promise<Held[]> {
    if (strange.size === 0) return [];
    const holdings = await this.#ask(signal, (ctx) => provider.holdings(ctx));
    return holdings.filter((held) => strange.has(records.nameOf(held)));
  }

  #found(provider: string, held: Held): Promise<boolean> {
    const { store, events, clock, ids } = this.#deps;
    const at = clock.now();
    return store.transaction(async (tx) => {
      const orphan = records.orphan({ id: ids.next('orp'), provider, held, at, removeAt: at + this.#grace });
      // Another daemon may have found it first.
      if (!(await records.insertOrphan(tx, orphan))) return false;
      await events.append(tx, 'orphan.found', { key: orphan.id, actor: 'sweep', data: records.told(orphan) });
      return true;
    });
  }

  async #remove(provider: Provider, orphan: OrphanRow, held: Held, signal: AbortSignal): Promise<void> {
    const { store, log } = this.#deps;
    // Its owner may have come back since the look: from a backup, or an operator's hand.
    if ((await ownedOf(store.read, [held])).has(held)) return;
    try {
      await this.#ask(signal, (ctx) => provider.remove(held, ctx));
    } catch (error) {
      if (signal.aborted) throw error;
      const { code, message } = asRackstartError(error);
      log.warn({ provider: provider.type, ...held, code, reason: message }, 'what nobody owns could not be removed');
      await store.transaction((tx) => records.setFailure(tx, orphan.id, { code, message }));
      return;
    }
    await this.#end(orphan, 'removed');
  }

  async #end(orphan: OrphanRow, outcome: 'removed' | 'owned' | 'gone'): Promise<void> {
    const { store, events, log } = this.#deps;
    const ended = await store.transaction(async (tx) => {
      if (!(await records.deleteOrphan(tx, orphan.id))) return false;
      const data = { ...records.told(orphan), outcome };
      await events.append(tx, 'orphan.ended', { key: orphan.id, actor: 'sweep', data });
      return true;
    });
    if (ended) log.info({ ...records.told(orphan), outcome }, 'something that nobody owned is settled');
  }

  async #ask<T>(signal: AbortSignal, question: (ctx: ProviderContext) => Promise<T>): Promise<T> {
    const { store, clock } = this.#deps;
    const late = new AbortController();
    const over = new AbortController();
    clock.sleepUntil(clock.now() + PATIENCE, over.signal).then(
      () => late.abort(new RackstartError('provider.timeout', 'The sweep has waited for long enough.')),
      () => undefined,
    );
    try {
      return await question({
        clock,
        read: store.read,
        signal: AbortSignal.any([signal, late.signal]),
        transaction: (work) => store.transaction(work),
      });
    } finally {
      over.abort();
    }
  }
}
