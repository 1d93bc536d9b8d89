import type { Cursor, EventLog } from '../events/event-log.ts';

/** Somebody who waits for anything to be told of one machine. */
export interface Listening {
  /** Aborts at the next event of the machine; the one before it is forgotten. */
  next(): AbortSignal;
  end(): void;
}

/**
 * Wakes those who wait for an event of their own machine. However many they are, the log is read once when there is more in it,
 * by this process for all of them, wherever it was written.
 */
export class MachineBell {
  readonly #events: EventLog;
  readonly #listening = new Map<string, Set<() => void>>();
  #following: Following | undefined;

  constructor(events: EventLog) {
    this.#events = events;
  }

  /** Whether anybody of this process listens to it now. */
  hears(machineId: string): boolean {
    return this.#listening.has(machineId);
  }

  /** Nothing that is told after this resolves is missed. */
  async listen(machineId: string): Promise<Listening> {
    let heard = new AbortController();
    const ring = () => heard.abort();
    const rings = this.#listening.get(machineId) ?? new Set();
    this.#listening.set(machineId, rings.add(ring));
    this.#following ??= this.#follow();
    const end = () => {
      rings.delete(ring);
      if (rings.size === 0 && this.#listening.get(machineId) === rings) this.#listening.delete(machineId);
      if (this.#listening.size === 0) this.#rest();
    };
    try {
      await this.#following.began;
    } catch (error) {
      end();
      this.#rest();
      throw error;
    }
    return { next: () => (heard = new AbortController()).signal, end };
  }

  #rest(): void {
    this.#following?.stop();
    this.#following = undefined;
  }

  #follow(): Following {
    let isReading = false;
    let isMore = false;
    let cursor: Cursor | undefined;
    const read = async () => {
      isMore = true;
      if (isReading || cursor === undefined) return;
      isReading = true;
      try {
        while (isMore) {
          isMore = false;
          const events = await this.#events.read(cursor, AT_ONCE);
          cursor = events.at(-1)?.position ?? cursor;
          if (events.length === AT_ONCE) isMore = true;
          for (const key of new Set(events.map((event) => event.key))) this.#ring(key);
        }
      } catch {
        // The store is away: the next nudge, or the end of their patience, has them look.
      } finally {
        isReading = false;
      }
    };
    const stop = this.#events.nudge(() => void read());
    const began = this.#events.position().then((position) => {
      cursor = position;
      if (isMore) void read();
    });
    return { began, stop };
  }

  #ring(machineId: string): void {
    for (const ring of this.#listening.get(machineId) ?? []) ring();
  }
}

interface Following {
  readonly began: Promise<void>;
  readonly stop: () => void;
}

const AT_ONCE = 200;
