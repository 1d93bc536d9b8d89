import { SECOND } from '../kernel/clock.ts';
import type { Millis } from '../kernel/clock.ts';
import { RackstartError, hasCode } from '../kernel/errors.ts';
import { refusedUntil } from '../kernel/guard.ts';

/** How long after its n-th failed try (1 is the first) a step is tried again; undefined when it has had its tries. */
export type RetryPolicy = (tries: number) => Millis | undefined;

/** At most `retries` times more, after 5, 10, 20 s and so on, up to 5 minutes. */
export function exponentialRetry(retries: number): RetryPolicy {
  return (tries) => (tries > retries ? undefined : Math.min(5 * SECOND * 2 ** (tries - 1), 300 * SECOND));
}

/** Whether the same call may succeed later. What is not one of our errors is a defect: it would fail again. */
export function isTransient(error: unknown): boolean {
  return error instanceof RackstartError && error.transient;
}

/** How long a step waits for our own database. */
const STORE_REST: Millis = 5 * SECOND;

/** When a step runs again, and as which try. */
export interface NextTry {
  readonly at: Millis;
  readonly tries: number;
}

/**
 * What follows a failed run; undefined when nothing does. One that a guard has refused tried nothing: it waits for as long as
 * the guard says, and keeps its tries for when the cluster is called. So does one that our own database was away for, or short
 * of connections: a server is not given up for that.
 */
export function nextTry(
  error: unknown,
  run: { tries: number; now: Millis; retry: RetryPolicy; mayRetry: (error: unknown) => boolean },
): NextTry | undefined {
  const { tries, now, retry, mayRetry } = run;
  const refused = refusedUntil(error);
  if (refused !== undefined) return { at: refused, tries };
  if (hasCode(error, 'store.unavailable')) return { at: now + STORE_REST, tries };
  const delay = mayRetry(error) ? retry(tries) : undefined;
  return delay === undefined ? undefined : { at: now + delay, tries: tries + 1 };
}
