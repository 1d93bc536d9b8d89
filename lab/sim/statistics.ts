import { monitorEventLoopDelay } from 'node:perf_hooks';

import type { Distribution } from './histogram.ts';
import { Histogram } from './histogram.ts';

/** How long the appliance took, as the machines saw it. */
export type Asked =
  | 'dhcp' // each packet that was answered, from its last sending to its answer
  | 'tftp' // a loader, from the request to the last block
  | 'script'
  | 'kernel'
  | 'initrd'
  | 'claim'
  | 'report'
  | 'files'
  | 'image'
  | 'inspection'
  | 'check'
  | 'wiped'
  | 'phone-home'
  | 'heartbeat';

/** What the simulation has seen since it began or was last told to forget. Plain JSON. */
export interface Statistics {
  readonly machines: number;
  /** Of them, those with power. */
  readonly on: number;
  /** Of them, those whose installed system runs. */
  readonly systems: number;
  /** By what was asked; ms. Failed ones are not in it: they are among `counts`. */
  readonly answers: Partial<Record<Asked, Distribution>>;
  /** How boots ended, what failed and which faults happened, such as `end: inspected`, `failed: script` or `fault: packet lost`. */
  readonly counts: Readonly<Record<string, number>>;
  /**
   * How late this process itself was, ms: it adds up to so much to every answer's time. A simulation that is late at p99 by more
   * than what it is to measure proves nothing.
   */
  readonly lateness: { readonly p50: number; readonly p99: number; readonly max: number };
  /** CPU time of this process, ms, and its resident memory, bytes. */
  readonly cpuMs: number;
  readonly rssBytes: number;
}

/** Takes notes for all machines of a process. */
export class Notebook {
  readonly #loop = monitorEventLoopDelay({ resolution: 10 });
  #answers = new Map<Asked, Histogram>();
  #counts = new Map<string, number>();
  #cpu = process.cpuUsage();

  constructor() {
    this.#loop.enable();
  }

  count(what: string): void {
    this.#counts.set(what, (this.#counts.get(what) ?? 0) + 1);
  }

  answered(what: Asked, ms: number): void {
    const histogram = this.#answers.get(what) ?? new Histogram();
    this.#answers.set(what, histogram);
    histogram.record(ms);
  }

  /** Times what is asked, and counts it when it fails. */
  async timed<T>(what: Asked, asking: () => Promise<T>): Promise<T> {
    const from = performance.now();
    try {
      const answer = await asking();
      this.answered(what, performance.now() - from);
      return answer;
    } catch (error) {
      this.count(`failed: ${what}`);
      throw error;
    }
  }

  forget(): void {
    this.#answers = new Map();
    this.#counts = new Map();
    this.#cpu = process.cpuUsage();
    this.#loop.reset();
  }

  read(fleet: Pick<Statistics, 'machines' | 'on' | 'systems'>): Statistics {
    const { user, system } = process.cpuUsage(this.#cpu);
    // The monitor sleeps for its resolution, and tells that as a delay.
    const late = (ns: number) => Math.max(0, Math.round(ns / 1e4 - 1_000) / 100);
    return {
      ...fleet,
      answers: Object.fromEntries([...this.#answers].map(([what, histogram]) => [what, histogram.distribution()])),
      counts: Object.fromEntries([...this.#counts].sort()),
      lateness: {
        p50: late(this.#loop.percentile(50)),
        p99: late(this.#loop.percentile(99)),
        max: late(this.#loop.max),
      },
      cpuMs: Math.round((user + system) / 1000),
      rssBytes: process.memoryUsage.rss(),
    };
  }
}
