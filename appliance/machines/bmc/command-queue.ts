import type { Clock, Millis } from '../../kernel/clock.ts';

/** Commands a BMC gets at most: `burst` at once after a rest, `perSecond` in the long run. */
export interface CommandRate {
  burst: number;
  perSecond: number;
}

/** One command at a time, and not too many: BMCs hang under bursts. Order is the order of the calls. */
export class CommandQueue {
  readonly #clock: Clock;
  readonly #rate: CommandRate;
  #last: Promise<unknown> = Promise.resolve();
  /** When all `burst` commands are allowed again; each command moves it by one interval. */
  #restedAt: Millis = 0;

  constructor(clock: Clock, rate: CommandRate) {
    this.#clock = clock;
    this.#rate = rate;
  }

  /** Runs `work` in its turn; an abort before that rejects with the signal's reason, and `work` is never called. */
  run<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const turn = this.#last.then(async () => {
      signal.throwIfAborted();
      await this.#allowance(signal);
      return work();
    });
    this.#last = turn.catch(() => undefined);
    return untilAborted(turn, signal);
  }

  async #allowance(signal: AbortSignal): Promise<void> {
    const interval = 1_000 / this.#rate.perSecond;
    const allowedAt = this.#restedAt - (this.#rate.burst - 1) * interval;
    if (allowedAt > this.#clock.now()) await this.#clock.sleepUntil(allowedAt, signal);
    this.#restedAt = Math.max(this.#restedAt, this.#clock.now()) + interval;
  }
}

// A caller who gives up leaves at once; its place in the queue falls free when its turn comes.
function untilAborted<T>(turn: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const leave = () => reject(signal.reason as Error);
    if (signal.aborted) leave();
    signal.addEventListener('abort', leave, { once: true });
    turn.then(resolve, reject).finally(() => signal.removeEventListener('abort', leave));
  });
}
