import { sql } from 'kysely';

import type { Millis } from '../kernel/clock.ts';
import { SECOND } from '../kernel/clock.ts';
import { asRackstartError } from '../kernel/errors.ts';
import type { Log } from '../kernel/log.ts';
import type { Service } from '../kernel/service.ts';
import type { SteadyClock } from '../kernel/steady-clock.ts';
import type { Store } from './store.ts';

/**
 * Keeps a daemon's clock to the one that all daemons on a database share: PostgreSQL's. What one writes (a lease's end, when a
 * step began) another can then hold against its own clock, whatever their hosts' clocks show. On SQLite, which has one
 * daemon, the reference is the host's clock.
 */
export class ClockFollower implements Service {
  readonly name = 'clock-follower';
  readonly #deps: { store: Store; clock: SteadyClock; log: Log };
  readonly #period: Millis;
  #isOff = false;

  constructor(deps: { store: Store; clock: SteadyClock; log: Log }, { period = 10 * SECOND } = {}) {
    this.#deps = deps;
    this.#period = period;
  }

  /** Before anything else looks at the clock. */
  async begin(): Promise<void> {
    const readings: Reading[] = [];
    while (readings.length < FIRST_READINGS) readings.push(await this.#read());
    const best = readings.reduce((least, next) => (next.doubt < least.doubt ? next : least));
    const { clock } = this.#deps;
    clock.set(best.at + (clock.host.monotonic() - best.taken));
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#deps;
    while (!signal.aborted) {
      try {
        const { at, doubt } = await this.#read();
        this.#tell(clock.follow(at, doubt));
      } catch (error) {
        const { code, message } = asRackstartError(error);
        log.debug({ code, reason: message }, 'the clock goes on by itself');
      }
      await clock.sleepUntil(clock.now() + this.#period, signal).catch(() => undefined);
    }
  }

  /** The shared clock at the end of this call, but for half of the time that the answer took. */
  async #read(): Promise<Reading> {
    const { store, clock } = this.#deps;
    if (store.dialect === 'sqlite') return { at: clock.host.wall(), taken: clock.host.monotonic(), doubt: 0 };
    const asked = clock.host.monotonic();
    const now = sql<number>`floor(extract(epoch from clock_timestamp()) * 1000)::bigint`.as('now');
    const answer = await store.read.selectFrom('event_positions').select(now).executeTakeFirstOrThrow();
    const taken = clock.host.monotonic();
    const doubt = (taken - asked) / 2;
    return { at: answer.now + doubt, taken, doubt: doubt + 1 };
  }

  #tell(behind: Millis): void {
    const isOff = Math.abs(behind) >= SECOND;
    if (isOff === this.#isOff) return;
    this.#isOff = isOff;
    const reference = this.#deps.store.dialect === 'sqlite' ? "the host's clock" : "the database's clock";
    if (isOff) this.#deps.log.warn({ reference, behindMs: Math.round(behind) }, 'the clock is off, and follows slowly');
    else this.#deps.log.info({ reference }, 'the clock is right again');
  }
}

interface Reading {
  readonly at: Millis;
  /** In the host's monotonic time. */
  readonly taken: Millis;
  readonly doubt: Millis;
}

const FIRST_READINGS = 5;
