import { HOUR, pause, SECOND } from './clock.ts';
import type { Clock, Millis } from './clock.ts';

/** What a host knows of time: what its clock shows, which people and NTP set, and how much goes by. */
export interface HostTime {
  wall(): Millis;
  /** Since any moment; it only goes on. */
  monotonic(): Millis;
}

export const hostTime: HostTime = { wall: () => Date.now(), monotonic: () => performance.now() };

/**
 * A clock that never steps. It starts at what the host's clock shows and goes on with the host's monotonic time; from then on
 * it follows a reference (`clock-follower.ts`), gaining or losing at most a tenth. So deadlines and leases last as long as
 * they should, whatever is done to the host's clock, and stamps are true again after a while.
 *
 * A day and more is followed at once: that host had no idea of the time.
 */
export class SteadyClock implements Clock {
  readonly host: HostTime;
  /** What it showed, and when in the host's monotonic time. */
  #base: Millis;
  #since: Millis;
  /** What it was behind the reference then. */
  #behind: Millis = 0;

  constructor(host: HostTime = hostTime) {
    this.host = host;
    this.#base = host.wall();
    this.#since = host.monotonic();
  }

  now(): Millis {
    return Math.floor(this.#exact(this.host.monotonic()));
  }

  async sleepUntil(at: Millis, signal: AbortSignal): Promise<void> {
    for (;;) {
      signal.throwIfAborted();
      const left = at - this.now();
      if (left <= 0) return;
      // In parts: meanwhile it may have begun to gain.
      await pause(Math.min(left, 10 * SECOND), signal);
    }
  }

  /** Takes a reading of the reference at this moment, true but for `doubt`. Returns how far behind it this clock is. */
  follow(reference: Millis, doubt: Millis = 0): Millis {
    const at = this.host.monotonic();
    const now = this.#exact(at);
    const behind = reference - now;
    const isLost = Math.abs(behind) >= 24 * HOUR;
    this.#base = isLost ? reference : now;
    this.#since = at;
    this.#behind = isLost || Math.abs(behind) <= doubt ? 0 : behind;
    return behind;
  }

  /** Takes the reference over at once: for a daemon that has not begun yet. */
  set(reference: Millis): void {
    this.#base = reference;
    this.#since = this.host.monotonic();
    this.#behind = 0;
  }

  #exact(at: Millis): Millis {
    const gone = at - this.#since;
    const most = gone * MOST_GAIN;
    return this.#base + gone + Math.max(-most, Math.min(most, this.#behind));
  }
}

/** An hour is made up for in ten. */
const MOST_GAIN = 0.1;
