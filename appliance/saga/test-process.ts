import { setImmediate as nextTurn, setTimeout as pause } from 'node:timers/promises';

import type { EventMap, EventType } from '../events/catalogue.ts';
import { createEventLog } from '../events/event-log.ts';
import type { EventLog } from '../events/event-log.ts';
import { Sequencer } from '../events/sequencer.ts';
import type { Clock } from '../kernel/clock.ts';
import { createIds } from '../kernel/ids.ts';
import type { Ids } from '../kernel/ids.ts';
import { silentLog } from '../kernel/log.ts';
import type { ManualClock } from '../kernel/manual-clock.ts';
import type { Store } from '../store/store.ts';
import { SagaRunner } from './saga-runner.ts';
import type { SagaRunnerOptions } from './saga-runner.ts';
import type { BoundSaga, SagaDefinition } from './saga.ts';
import { Sagas } from './sagas.ts';
import type { StartOptions } from './sagas.ts';

/** What a process passes on its way: each write and each effect, before and after. It may be killed there. */
export type Point = (what: string) => Promise<void>;

export interface TestProcessOptions extends Omit<SagaRunnerOptions, 'sagas'> {
  /** May need the process that they run in. */
  sagas: readonly BoundSaga[] | ((process: TestProcess) => readonly BoundSaga[]);
  store: Store;
  clock: ManualClock;
  /** Called at every point before a dead process is held there. */
  onPoint?: ((what: string) => void | Promise<void>) | undefined;
  /** Default: ids of its own. */
  ids?: Ids;
  /**
   * Whether a step that passes no point waits inside for something that takes time, or for ever: the process is at rest, too,
   * when that was so for a while. On SQLite alone, where whatever waits neither for that nor for the disk gets on with every
   * turn of the event loop. Default: none does.
   */
  mayHang?: () => boolean;
}

/**
 * One daemon's event log and sagas on a manual clock, for tests: it can be killed as by SIGKILL, after which nothing of it
 * reaches the database, the clock or the world any more, while its objects are still there.
 */
export class TestProcess {
  /** What of the database a process reaches: nothing once it is dead, and what it had not committed is thrown away. */
  readonly store: Store;
  /** Nothing of a dead process wakes. */
  readonly clock: Clock;
  readonly events: EventLog;
  readonly sagas: Sagas;
  readonly runner: SagaRunner;
  readonly #sequencer: Sequencer;
  readonly #store: Store;
  readonly #clock: ManualClock;
  readonly #death = new AbortController();
  readonly #died = Promise.withResolvers<undefined>();
  readonly #end = new AbortController();
  readonly #onPoint: (what: string) => void | Promise<void>;
  readonly #mayHang: () => boolean;
  #running: Promise<void> = Promise.resolve();
  /** How many points it has passed. */
  #passed = 0;

  constructor({ store, clock, onPoint, sagas, ids = createIds(clock), mayHang, ...options }: TestProcessOptions) {
    this.#store = store;
    this.#clock = clock;
    this.#onPoint = onPoint ?? (() => undefined);
    this.#mayHang = mayHang ?? (() => false);
    this.store = this.#mortalStore();
    this.clock = this.#mortalClock();
    const mortal = { store: this.store, clock: this.clock, log: silentLog };
    this.#sequencer = new Sequencer(mortal);
    this.events = createEventLog({ ...mortal, ids, sequencer: this.#sequencer });
    this.sagas = new Sagas({ clock, ids });
    const bound = typeof sagas === 'function' ? sagas(this) : sagas;
    this.runner = new SagaRunner({ ...mortal, events: this.events, sagas: this.sagas }, { ...options, sagas: bound });
  }

  isDead(): boolean {
    return this.#death.signal.aborted;
  }

  run(): void {
    this.#running = this.runner.run(this.#end.signal);
  }

  kill(): void {
    this.#death.abort();
    this.#died.resolve(undefined);
  }

  /** Ends it in order. */
  async end(): Promise<void> {
    this.#end.abort();
    await this.#running;
  }

  /** Passes at once while the process lives; a dead one stays there for ever. */
  readonly point: Point = async (what) => {
    this.#passed += 1;
    if (!this.isDead()) await this.#onPoint(what);
    if (this.isDead()) await never();
  };

  start<Params, Deps>(definition: SagaDefinition<Params, Deps>, options: StartOptions<Params>): Promise<string> {
    return this.#store.transaction((tx) => this.sagas.start(tx, definition, options));
  }

  /** Appends an event, as something outside the sagas would. */
  say<T extends EventType>(type: T, key: string, data: EventMap[T]): Promise<void> {
    return this.#store.transaction((tx) => this.events.append(tx, type, { key, actor: 'test', data }));
  }

  /** Until every saga sleeps or has ended; time stands still. */
  async settle(): Promise<void> {
    const deadline = performance.now() + 20_000;
    for (;;) {
      await Promise.race([this.#sequencer.sequence(), this.#died.promise]);
      if (!this.#isWorking()) return;
      for (let passed = this.#passed, still = 0, quiet = 0; this.#isWorking(); still += 1, quiet += 1) {
        if (passed !== this.#passed) [passed, still] = [this.#passed, 0];
        if (still === 0 || !this.#mayHang()) quiet = 0;
        if (quiet > QUIET_TURNS) return;
        if (performance.now() > deadline) throw new Error('the sagas did not come to rest');
        // A database in another process gets on with it while this one does not turn in circles beside it.
        await (still > QUIET_TURNS && quiet === 0 ? pause(1) : nextTurn());
      }
    }
  }

  /** Lets time pass, from one sleeper's time to the next, until the condition holds or the process is dead. */
  async runUntil(condition: () => Promise<boolean>): Promise<void> {
    for (let turns = 0; turns < 1_000; turns += 1) {
      await this.settle();
      if (this.isDead() || (await condition())) return;
      const next = this.#clock.nextWake();
      if (next !== undefined) await this.#clock.advance(next - this.#clock.now());
    }
    throw new Error('what was waited for did not come');
  }

  #isWorking(): boolean {
    return this.runner.busy && !this.isDead();
  }

  #mortalStore(): Store {
    const { dialect, read } = this.#store;
    return {
      dialect,
      read,
      close: () => Promise.resolve(),
      transaction: async (work) => {
        await this.point('write');
        try {
          const result = await this.#store.transaction(async (tx) => {
            const made = await work(tx);
            if (!this.isDead()) await this.#onPoint('commit');
            if (this.isDead()) throw new Lost();
            return made;
          });
          await this.point('written');
          return result;
        } catch (error) {
          if (error instanceof Lost) return never();
          throw error;
        }
      },
    };
  }

  #mortalClock(): Clock {
    return {
      now: () => this.#clock.now(),
      sleepUntil: async (at, signal) => {
        if (this.isDead()) return never();
        try {
          await this.#clock.sleepUntil(at, AbortSignal.any([signal, this.#death.signal]));
        } catch (error) {
          if (this.isDead()) return never();
          throw error;
        }
      },
    };
  }
}

/** How many turns of the event loop it takes to know that a step waits for something outside. */
const QUIET_TURNS = 25;

/** Its process died before the commit. */
class Lost extends Error {}

function never(): Promise<never> {
  return new Promise(() => undefined);
}
