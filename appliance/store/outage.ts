import type { Clock, Millis } from '../kernel/clock.ts';
import { SECOND } from '../kernel/clock.ts';
import { hasCode } from '../kernel/errors.ts';
import type { Log } from '../kernel/log.ts';

/** While the database fails, so often is it told. */
const TELL_AGAIN: Millis = 10 * SECOND;

/**
 * Tells the log that the database is away: when it begins, every 10 s while somebody still asks for it, and when it is over.
 * Everybody who asks has the error; here it is for people, in as many lines as they can read.
 */
export class Outage {
  readonly #what: 'read' | 'written';
  readonly #clock: Clock;
  readonly #log: Log;
  #failures = 0;
  #since: Millis | undefined;
  #toldAt = -Infinity;

  constructor(what: 'read' | 'written', clock: Clock, log: Log) {
    this.#what = what;
    this.#clock = clock;
    this.#log = log;
  }

  /** Counts what is `store.unavailable`; other errors say that the database answers. */
  failed(error: unknown): void {
    if (!hasCode(error, 'store.unavailable')) return;
    const now = this.#clock.now();
    this.#failures += 1;
    if (now < this.#toldAt + TELL_AGAIN) return;
    this.#since ??= now;
    this.#toldAt = now;
    const { message, details } = error;
    this.#log.error({ ...details, reason: message, failures: this.#failures }, `the database can't be ${this.#what}`);
  }

  worked(): void {
    if (this.#failures === 0) return;
    const [failures, since] = [this.#failures, this.#since];
    this.#failures = 0;
    this.#since = undefined;
    // One that comes and goes several times in 10 s was told of once.
    if (since !== undefined) {
      this.#log.info({ failures, milliseconds: this.#clock.now() - since }, `the database can be ${this.#what} again`);
    }
  }
}
