import type { ApiClient } from '../site/api-client.ts';
import { until } from '../process/until.ts';

interface EventRecord {
  readonly position: number;
  readonly type: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/**
 * The states of all machines and requests, kept by the event log: asking for each of thousands, again and again, would be most of the
 * appliance's work. An appliance that does not answer, because it is being restarted, has nothing new to tell.
 */
export class EventFollower {
  /** By id; of machines that have never changed their state, none. */
  readonly machines = new Map<string, string>();
  readonly requests = new Map<string, string>();
  readonly #operator: ApiClient;
  #position = 0;

  constructor(operator: ApiClient) {
    this.#operator = operator;
  }

  /** Reads on until `condition` holds; rejects, naming what was waited for, when it does not in time. */
  async until(what: () => string, withinMs: number, condition: () => boolean): Promise<void> {
    try {
      await until('events', withinMs, async () => {
        await this.#readOn();
        return condition();
      });
    } catch (cause) {
      throw new Error(`waited ${withinMs / 1000} s in vain: ${what()}`, { cause });
    }
  }

  async #readOn(): Promise<void> {
    for (let more = true; more;) {
      const path = `/events?after=${this.#position}&limit=${BATCH}`;
      const batch = await this.#operator.get<{ events: EventRecord[]; position: number }>(path).catch(() => undefined);
      if (batch === undefined) return;
      for (const { type, data } of batch.events) {
        if (type === 'machine.state-changed') this.machines.set(String(data['machineId']), String(data['to']));
        if (type === 'request.state-changed') this.requests.set(String(data['requestId']), String(data['to']));
      }
      more = batch.events.length === BATCH;
      this.#position = batch.position;
    }
  }
}

const BATCH = 1000;

/** How many there are of each, such as `available: 3, quarantined: 1`. */
export function tally(states: Iterable<string>): string {
  const counts = new Map<string, number>();
  for (const state of states) counts.set(state, (counts.get(state) ?? 0) + 1);
  return [...counts].map(([state, count]) => `${state}: ${count}`).join(', ');
}
