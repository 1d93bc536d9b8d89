import type { FastifyRequest } from 'fastify';

import { clientHost } from '../kernel/client-host.ts';
import type { Clock, Millis } from '../kernel/clock.ts';
import { SECOND } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';

/** How often one caller may ask: `burst` requests at once, and then `perSecond`. */
export interface Rate {
  readonly perSecond: number;
  readonly burst: number;
}

/** What a refused caller was counted by. */
export type LimitedBy = 'key' | 'address';

/**
 * Who may ask the API how often. A caller with a valid key is counted by that key, wherever it calls from. Whoever shows
 * none, or a wrong one, is counted by its address, and an address that has asked so too often is refused before its next
 * key costs a look into the database. Errors of all three: `rate.limited`, with `retryAfter` in its details.
 */
export class CallerLimits {
  readonly #keys: RateLimit;
  readonly #addresses: RateLimit;
  readonly #onLimited: (by: LimitedBy) => void;

  constructor(rate: Rate, clock: Clock, onLimited: (by: LimitedBy) => void = () => undefined) {
    this.#keys = new RateLimit(rate, clock);
    this.#addresses = new RateLimit(rate, clock);
    this.#onLimited = onLimited;
  }

  /** Whoever calls with a key that proved valid. */
  known(keyId: string): void {
    this.#refuse('key', this.#keys.take(keyId));
  }

  /** Whoever is served without a key. */
  unknown(request: FastifyRequest): void {
    this.#refuse('address', this.#addresses.take(clientHost(request.ip)));
  }

  /** Runs the look-up of a key: not for an address that is over its limit, which a failed one is counted against. */
  async identify<T>(request: FastifyRequest, lookUp: () => Promise<T>): Promise<T> {
    const client = clientHost(request.ip);
    this.#refuse('address', this.#addresses.wait(client));
    try {
      return await lookUp();
    } catch (error) {
      if (error instanceof RackstartError && error.status === 401) this.#addresses.take(client);
      throw error;
    }
  }

  #refuse(by: LimitedBy, wait: Millis): void {
    if (wait <= 0) return;
    this.#onLimited(by);
    const retryAfter = Math.ceil(wait / SECOND);
    const message = `You ask more often than you may; ask again in ${String(retryAfter)} s.`;
    throw new RackstartError('rate.limited', message, { details: { retryAfter } });
  }
}

/**
 * The generic cell rate algorithm (ITU-T I.371, its virtual scheduling form): one number a caller, the time until which
 * what it asked keeps its budget in use. A refused request costs nothing.
 */
export class RateLimit {
  readonly #interval: Millis;
  readonly #burst: Millis;
  readonly #clock: Clock;
  readonly #most: number;
  // In the order of last use: when there are too many, those go first whose budget is the likeliest to be whole again.
  readonly #usedUntil = new Map<string, Millis>();

  constructor({ perSecond, burst }: Rate, clock: Clock, most = 10_000) {
    this.#interval = SECOND / perSecond;
    this.#burst = burst * this.#interval;
    this.#clock = clock;
    this.#most = most;
  }

  /** Counts one request and returns 0; or counts none and returns how long to wait. */
  take(caller: string): Millis {
    const wait = this.wait(caller);
    if (wait > 0) return wait;
    const usedUntil = this.#with(caller);
    this.#usedUntil.delete(caller);
    this.#usedUntil.set(caller, usedUntil);
    const [oldest = caller] = this.#usedUntil.keys();
    if (this.#usedUntil.size > this.#most) this.#usedUntil.delete(oldest);
    return 0;
  }

  /** How long until one more request is within the limit; 0 when it is. */
  wait(caller: string): Millis {
    return Math.max(0, this.#with(caller) - this.#clock.now() - this.#burst);
  }

  #with(caller: string): Millis {
    const now = this.#clock.now();
    const usedUntil = this.#usedUntil.get(caller) ?? now;
    // Further ahead is a clock that was set back: it must lock nobody out for longer than a burst takes.
    if (usedUntil > now + this.#burst) this.#usedUntil.set(caller, now + this.#burst);
    return Math.max(Math.min(usedUntil, now + this.#burst), now) + this.#interval;
  }
}
