import type { Clock, Millis } from './clock.ts';

/** A clock that moves only when told, for tests: sleepers wake in the order of their times, never by luck. */
export class ManualClock implements Clock {
  #now: Millis;
  #sleepers: { at: Millis; wake: () => void }[] = [];

  constructor(start: Millis = Date.UTC(2026, 0, 1)) {
    this.#now = start;
  }

  now(): Millis {
    return this.#now;
  }

  sleepUntil(at: Millis, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (at <= this.#now) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const sleeper = {
        at,
        wake: () => {
          signal.removeEventListener('abort', stop);
          resolve();
        },
      };
      const stop = () => {
        this.#sleepers = this.#sleepers.filter((other) => other !== sleeper);
        reject(signal.reason as Error);
      };
      signal.addEventListener('abort', stop, { once: true });
      this.#sleepers.push(sleeper);
    });
  }

  /** Moves time forward by `duration`, waking sleepers one after another; each may sleep again within the span. */
  async advance(duration: Millis): Promise<void> {
    const end = this.#now + duration;
    for (;;) {
      await settle();
      const next = this.#sleepers.reduce<Millis>((least, { at }) => Math.min(least, at), Infinity);
      if (next > end) break;
      this.#now = Math.max(this.#now, next);
      const due = this.#sleepers.filter(({ at }) => at <= next);
      this.#sleepers = this.#sleepers.filter(({ at }) => at > next);
      for (const { wake } of due) wake();
    }
    // Who was woken may have moved it further.
    this.#now = Math.max(this.#now, end);
    await settle();
  }

  /** What a process meets that stood still for `duration`: all who are due wake at once, in the order of their times. */
  jump(duration: Millis): void {
    this.#now += duration;
    const due = this.#sleepers.filter(({ at }) => at <= this.#now).sort((a, b) => a.at - b.at);
    this.#sleepers = this.#sleepers.filter(({ at }) => at > this.#now);
    for (const { wake } of due) wake();
  }

  /** When the next sleeper wakes; undefined when nobody sleeps. */
  nextWake(): Millis | undefined {
    return this.#sleepers.length === 0 ? undefined : Math.min(...this.#sleepers.map(({ at }) => at));
  }
}

// One turn of the event loop: promise chains and in-process I/O callbacks run to their next wait.
function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
