import { SECOND } from '../kernel/clock.ts';
import type { Millis } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';

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
