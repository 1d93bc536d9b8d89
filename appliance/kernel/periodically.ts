import type { Clock, Millis } from './clock.ts';
import { asRackstartError } from './errors.ts';
import type { Log } from './log.ts';

export interface Period {
  /** From the end of one look to the beginning of the next. */
  readonly every: Millis;
  /** What the log says of a look that failed. */
  readonly failure: string;
  readonly clock: Clock;
  readonly log: Log;
}

/** Looks at once, then again and again, also after a look that failed. Rejects with the signal's reason when `signal` aborts. */
export async function periodically(
  look: () => Promise<void>,
  { every, failure, clock, log }: Period,
  signal: AbortSignal,
): Promise<never> {
  for (;;) {
    try {
      await look();
    } catch (error) {
      // What the end cuts off is no failure.
      signal.throwIfAborted();
      const { code, message } = asRackstartError(error);
      log.warn({ code, reason: message }, failure);
    }
    await clock.sleepUntil(clock.now() + every, signal);
  }
}
