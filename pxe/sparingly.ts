import type { Clock, Millis } from '../appliance/kernel/clock.ts';

/** Says a thing at most once per interval, so that a flood on the wire is no flood in the log. */
export class Sparingly {
  readonly #clock: Clock;
  readonly #interval: Millis;
  #quietUntil: Millis = -Infinity;
  #unsaid = 0;

  constructor(clock: Clock, interval: Millis) {
    this.#clock = clock;
    this.#interval = interval;
  }

  /** `more` counts what went unsaid since the last time. */
  say(speak: (more: number) => void): void {
    const now = this.#clock.now();
    // A clock that was set back must not leave it silent.
    if (now < this.#quietUntil && now >= this.#quietUntil - this.#interval) {
      this.#unsaid++;
      return;
    }
    const more = this.#unsaid;
    this.#quietUntil = now + this.#interval;
    this.#unsaid = 0;
    speak(more);
  }
}
