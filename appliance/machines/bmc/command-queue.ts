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
  /** Settles when the last in the queue is done; undefined when nobody is in it. */
  #last: Promise<void> | undefined;
  /** When all `burst` commands are allowed again; each command moves it by one interval. */
  #restedAt: Millis = 0;

  constructor(clock: Clock, rate: CommandRate) {
    this.#clock = clock;
    this.#rate = rate;
  }

  /** Runs `work` in its turn; an abort before that rejects with the signal's reason, and `work` is never called. */
  async run<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    signal.throwIfAborted();
    const before = this.#last;
    const turn = Promise.withResolvers<undefined>();
    const leave = () => {
      if (this.#last === turn.promise) this.#last = undefined;
      turn.resolve(undefined);
    };
    this.#last = turn.promise;
    try {
      if (before !== undefined) await untilAborted(before, signal);
      await this.#allowance(signal);
      return await work();
    } finally {
      // Who gave up in the queue leaves at once, but those behind still wait for those in front.
      if (before === undefined) leave();
      else void before.then(leave);
    }
  }

  async #allowance(signal: AbortSignal): Promise<void> {
    const interval = 1_000 / this.#rate.perSecond;
    const allowedAt = this.#restedAt - (this.#rate.burst - 1) * interval;
    if (allowedAt > this.#clock.now()) await this.#clock.sleepUntil(allowedAt, signal);
    this.#restedAt = Math.max(this.#restedAt, this.#clock.now()) + interval;
  }
}

function untilAborted(turn: Promise<void>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const giveUp = () => reject(signal.reason as Error);
    signal.addEventListener('abort', giveUp, { once: true });
    void turn.then(() => {
      signal.removeEventListener('abort', giveUp);
      resolve();
    });
  });
}
