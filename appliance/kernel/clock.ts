/** Milliseconds since the Unix epoch, UTC. */
export type Millis = number;

/** The only source of time. Everything that waits or stamps takes one, so that a test can own time. */
export interface Clock {
  now(): Millis;
  /** Resolves at or after `at`; rejects with the signal's reason when `signal` aborts first. */
  sleepUntil(at: Millis, signal: AbortSignal): Promise<void>;
}

// setTimeout holds 31 bits of milliseconds and fires at once beyond them.
const LONGEST_TIMER: Millis = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => Date.now(),

  async sleepUntil(at, signal) {
    for (;;) {
      signal.throwIfAborted();
      const left = at - Date.now();
      if (left <= 0) return;
      await pause(Math.min(left, LONGEST_TIMER), signal);
    }
  },
};

/** Resolves after so long; rejects with the signal's reason. */
export function pause(duration: Millis, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason as Error);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', stop);
      resolve();
    }, duration);
    signal.addEventListener('abort', stop, { once: true });
  });
}

export const SECOND: Millis = 1_000;
export const MINUTE: Millis = 60 * SECOND;
export const HOUR: Millis = 60 * MINUTE;
