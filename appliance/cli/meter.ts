import type { Clock, Millis } from '../kernel/clock.ts';
import { SECOND } from '../kernel/clock.ts';
import { duration, megabytes } from './text.ts';

/** How far one piece of work is that is counted in bytes, and how fast it goes on. */
export class Meter {
  readonly #clock: Clock;
  readonly #what: string;
  /** What was counted in the last seconds, the oldest first; never empty. */
  #samples: { readonly at: Millis; readonly done: number }[];

  /** `done`: what was there before, and tells nothing of the speed. */
  constructor(clock: Clock, what: string, done: number) {
    this.#clock = clock;
    this.#what = what;
    this.#samples = [{ at: clock.now(), done }];
  }

  count(done: number): void {
    const at = this.#clock.now();
    const last = this.#samples.at(-1);
    // One sample a second will do; the last is always what counts now.
    const before = this.#samples.at(-2);
    if (before !== undefined && last !== undefined && last.at - before.at < SECOND) this.#samples.pop();
    this.#samples.push({ at, done });
    while (this.#samples.length > 2 && at - (this.#samples[1]?.at ?? at) >= WINDOW) this.#samples.shift();
  }

  /** Of `total` bytes, where that is known; with a bar when it is drawn again and again in one place. */
  text(total: number | null, withBar: boolean): string {
    const { done } = this.#now();
    const speed = this.#bytesPerSecond();
    const parts = [
      total === null || total === 0 ? megabytes(done) : `${share(done, total).padStart(3)} % of ${megabytes(total)}`,
      `${(speed / 1e6).toFixed(1)} MB/s`,
      ...(total === null || speed === 0 ? [] : [`${duration(((total - done) / speed) * SECOND)} left`]),
    ];
    const bar = withBar && total !== null && total > 0 ? `${drawn(done / total)} ` : '';
    return `${this.#what} ${bar}${parts.join(', ')}`;
  }

  #now() {
    return this.#samples.at(-1) ?? { at: this.#clock.now(), done: 0 };
  }

  #bytesPerSecond(): number {
    const { at, done } = this.#now();
    const first = this.#samples[0];
    return first === undefined || at === first.at ? 0 : ((done - first.done) / (at - first.at)) * SECOND;
  }
}

/** Long enough that it does not jump, short enough that it tells when a network has become slow. */
const WINDOW = 10 * SECOND;
const BAR = 20;

function drawn(share: number): string {
  return '#'.repeat(Math.floor(BAR * Math.min(share, 1))).padEnd(BAR, '.');
}

/** Whole percent, which says 100 for nothing less. */
export function share(done: number, total: number): string {
  return String(Math.floor((100 * done) / total));
}
