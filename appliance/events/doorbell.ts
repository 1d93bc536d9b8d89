import type { Clock, Millis } from '../kernel/clock.ts';

/** Wakes one loop: clear, look, wait. A ring while it looks is kept until the next look; many rings are one. */
export class Doorbell {
  #rung = false;
  #answer: (() => void) | undefined;

  ring(): void {
    this.#rung = true;
    this.#answer?.();
  }

  clear(): void {
    this.#rung = false;
  }

  get rung(): boolean {
    return this.#rung;
  }

  /** Resolves at the next ring (at once when it has rung since it was cleared), at `at`, or when the signal aborts. */
  async wait(clock: Clock, at: Millis, signal: AbortSignal): Promise<void> {
    if (this.#rung || signal.aborted) return;
    const over = new AbortController();
    const ring = new Promise<void>((resolve) => {
      this.#answer = resolve;
    });
    const sleep = clock.sleepUntil(at, AbortSignal.any([signal, over.signal])).catch(() => undefined);
    await Promise.race([ring, sleep]);
    this.#answer = undefined;
    over.abort(OVER);
  }
}

// Made once: an abort without a reason makes a DOMException with its stack, 45 µs each.
const OVER = new Error('the wait is over');
