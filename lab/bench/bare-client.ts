import { setTimeout as pause } from 'node:timers/promises';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';

import pg from 'pg';

import { percentile } from './report.ts';

/** What a client waits for that does nothing but this, in milliseconds, in order: one row found, one row updated, a commit. */
export interface BareTimes {
  readonly found: readonly number[];
  readonly updated: readonly number[];
  readonly committed: readonly number[];
}

/**
 * A bare client of the same database, in a thread of its own, beside whatever is measured: what it waits for is the server's, the
 * disk's and that of the processors they share, and nothing of the daemon's is in it.
 */
export class BareClient {
  readonly #worker: Worker;
  readonly #times: Promise<BareTimes>;

  constructor(url: string, perSecond: number) {
    this.#worker = new Worker(new URL(import.meta.url), { workerData: { url, perSecond } satisfies Work });
    this.#times = new Promise((resolve, reject) => {
      this.#worker.once('message', resolve).once('error', reject);
    });
    // Whoever stops it hears of it.
    this.#times.catch(() => undefined);
  }

  async stop(): Promise<BareTimes> {
    this.#worker.postMessage('stop');
    return this.#times;
  }
}

export function toldBare({ found, updated, committed }: BareTimes): string {
  const figures = (times: readonly number[]) =>
    `p50 ${percentile(times, 0.5).toFixed(2)}, p99 ${percentile(times, 0.99).toFixed(2)} ms`;
  return `  a bare client    row found ${figures(found)}; row updated ${figures(updated)}; committed ${figures(committed)}`;
}

interface Work {
  readonly url: string;
  readonly perSecond: number;
}

async function work({ url, perSecond }: Work): Promise<BareTimes> {
  const client = new pg.Client({ connectionString: url, application_name: 'bare client' });
  await client.connect();
  await client.query('create table if not exists bare (id integer primary key, count bigint not null)');
  await client.query('insert into bare values (1, 0) on conflict do nothing');
  const times = { found: [] as number[], updated: [] as number[], committed: [] as number[] };
  const timed = async (what: keyof BareTimes, query: pg.QueryConfig) => {
    const began = performance.now();
    await client.query(query);
    times[what].push(performance.now() - began);
  };
  const stopped = new Promise<true>((resolve) => parentPort?.once('message', () => resolve(true)));
  for (let isOver = false; !isOver;) {
    await timed('found', { name: 'find', text: 'select count from bare where id = 1' });
    await client.query('begin');
    await timed('updated', { name: 'update', text: 'update bare set count = count + 1 where id = 1' });
    await timed('committed', { text: 'commit' });
    isOver = await Promise.race([stopped, pause(1_000 / perSecond, false)]);
  }
  await client.query('drop table bare');
  await client.end();
  return times;
}

if (!isMainThread) parentPort?.postMessage(await work(workerData as Work));
