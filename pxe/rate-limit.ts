import type { Clock, Millis } from '../appliance/kernel/clock.ts';

/** So many events of one key in each window of time. It remembers the keys of the current window alone. */
export class RateLimit {
  readonly #clock: Clock;
  readonly #window: Millis;
  readonly #most: number;
  readonly #counts = new Map<string, number>();
  #windowEnds: Millis = -Infinity;

  constructor(clock: Clock, window: Millis, most: number) {
    this.#clock = clock;
    this.#window = window;
    this.#most = most;
  }

  /** Counts one event, and tells whether it is still within the limit. */
  allows(key: string): boolean {
    const now = this.#clock.now();
    // A clock that was set back must not leave anybody locked out.
    if (now >= this.#windowEnds || now < this.#windowEnds - this.#window) {
      this.#counts.clear();
      this.#windowEnds = now + this.#window;
    }
    const count = (this.#counts.get(key) ?? 0) + 1;
    this.#counts.set(key, count);
    return count <= this.#most;
  }
}
