import type { Clock, Millis } from './clock.ts';
import { SECOND } from './clock.ts';
import type { Service } from './service.ts';

/**
 * Since when we have been there without a gap: what others did not tell us before is not held against them. A gap is our own
 * start, a time in which this process stood still, and one in which our database did not answer.
 */
export class Attendance implements Service {
  readonly name = 'attendance';
  readonly #clock: Clock;
  readonly #probe: () => Promise<void>;
  #since: Millis;

  /** `probe` rejects when what we are told can't be kept. */
  constructor(clock: Clock, probe: () => Promise<void> = () => Promise.resolve()) {
    this.#clock = clock;
    this.#probe = probe;
    this.#since = clock.now();
  }

  get since(): Millis {
    return this.#since;
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const began = this.#clock.now();
      const answered = await this.#probe().then(
        () => true,
        () => false,
      );
      await this.#clock.sleepUntil(this.#clock.now() + SECOND, signal).catch(() => undefined);
      const now = this.#clock.now();
      if (!answered || now - began > GAP) this.#since = now;
    }
  }
}

// Busy moments are no absence: machines ask again every five seconds.
const GAP: Millis = 5 * SECOND;
