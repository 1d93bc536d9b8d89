import type { Clock } from '../../appliance/kernel/clock.ts';

/**
 * A clock on which time goes by `factor` times as fast as on `real`, from the moment this is called: an hour's wait is over after
 * an hour divided by `factor`.
 */
export function scaledClock(real: Clock, factor: number): Clock {
  const origin = real.now();
  return {
    now: () => origin + (real.now() - origin) * factor,
    sleepUntil: (at, signal) => real.sleepUntil(origin + (at - origin) / factor, signal),
  };
}
