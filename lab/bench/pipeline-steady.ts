import { setTimeout as pause } from 'node:timers/promises';

import { until } from '../process/until.ts';
import { ask } from '../workers/client.ts';
import type { Workers } from '../workers/workers.ts';
import { BareClient } from './bare-client.ts';
import type { BareTimes } from './bare-client.ts';
import { eventsBetween, overhead, overheadByPart, pickUp, served } from './pipeline-figures.ts';
import type { Cost, PipelineSite, ProviderTimes } from './pipeline-site.ts';
import { clusters, describeSite, meter, openPipelineSite, orderOf } from './pipeline-site.ts';
import type { SiteKind } from './pipeline-site.ts';
import { median, percentile } from './report.ts';

export interface SteadyLoad {
  /** How many requests are to be in flight, once as many have come as go. */
  readonly inFlight: number;
  readonly times: ProviderTimes;
  readonly tenants: number;
}

export interface SteadyFigures extends Cost {
  readonly inFlight: number;
  readonly requestsPerSecond: number;
  readonly eventsPerSecond: number;
  readonly overheads: readonly number[];
  readonly pickUps: readonly number[];
  /** By where it arises: the median and what 99 in 100 do not exceed. */
  readonly parts: Readonly<Record<string, { p50: number; p99: number }>>;
  readonly cpuPerRequestMs: number;
  /** Of PostgreSQL alone. */
  readonly bare: BareTimes | undefined;
}

const CLUSTERS = 4;
const BARE_PER_SECOND = 40;

/**
 * Orders come evenly, at the rate at which so many are in flight for as long as the provider takes, whether the daemons keep
 * up or not: one that is slow is not spared the next order. What comes after as many are in flight is measured, for as long
 * as one request takes.
 */
export async function steady(
  kind: SiteKind,
  count: number,
  { inFlight, times, tenants }: SteadyLoad,
): Promise<SteadyFigures> {
  const site = await openPipelineSite(kind);
  try {
    const settings = [
      'log: warn',
      'api: { port: 0, rateLimit: { perSecond: 100000, burst: 100000 } }',
      // There is room for all: what a request waits is the daemon's.
      `fairness: { perTenant: ${String(inFlight)}, inAll: ${String(10 * inFlight)} }`,
      ...clusters(CLUSTERS, times),
    ];
    const workers = await site.start(count, settings);
    try {
      return await measured(site, workers, { inFlight, times, tenants });
    } finally {
      await workers.stop();
    }
  } finally {
    await site.close();
  }
}

async function measured(
  site: PipelineSite,
  workers: Workers,
  { inFlight, times, tenants }: SteadyLoad,
): Promise<SteadyFigures> {
  const ids = await describeSite(workers, tenants);
  const lifetime = 4 * times.call + times.probe + (times.start.least + times.start.usual + times.start.most) / 3;
  const over = new AbortController();
  const ordering = orderEvenly(workers, ids, inFlight / lifetime, over.signal);
  const samples: number[] = [];
  try {
    // The fullness of the first lifetime is reached with its longest requests.
    await pause(lifetime + times.start.most - times.start.usual);
    const read = await meter(workers);
    const client = site.url === undefined ? undefined : new BareClient(site.url, BARE_PER_SECOND);
    const from = Date.now();
    while (Date.now() < from + lifetime) {
      samples.push(await countInFlight(site));
      await pause(250);
    }
    const to = Date.now();
    const cost = await read();
    const bare = await client?.stop();
    const eventsPerSecond = await eventsBetween(site, from, to);
    await until('the requests that are measured', 120_000, async () => (await unserved(site, to)) === 0);
    const all = await served(site);
    const requests = all.filter(({ createdAt }) => createdAt >= from && createdAt < to);
    const done = all.filter(({ completedAt }) => completedAt >= from && completedAt < to).length;
    const parts = requests.map((request) => overheadByPart(request, times));
    return {
      ...cost,
      bare,
      inFlight: median(samples),
      requestsPerSecond: (done * 1_000) / (to - from),
      eventsPerSecond,
      cpuPerRequestMs: (cost.cpuSeconds * 1_000) / done,
      overheads: requests.map((request) => overhead(request, times)),
      pickUps: requests.map(pickUp),
      parts: Object.fromEntries(
        Object.keys(parts[0] ?? {}).map((part) => {
          const values = parts.map((one) => one[part] ?? NaN);
          return [part, { p50: percentile(values, 0.5), p99: percentile(values, 0.99) }];
        }),
      ),
    };
  } finally {
    over.abort();
    await ordering;
  }
}

/** One order after another until the signal, each at its time, whatever became of those before it. */
async function orderEvenly(
  workers: Workers,
  tenants: readonly string[],
  perMs: number,
  signal: AbortSignal,
): Promise<void> {
  const began = performance.now();
  const asked: Promise<unknown>[] = [];
  for (let number = 0; !signal.aborted; number += 1) {
    await pause(Math.max(0, began + number / perMs - performance.now()));
    const tenant = tenants[number % tenants.length];
    const body = { ...orderOf(number, CLUSTERS), tenant };
    asked.push(ask(workers, number % workers.count, { method: 'POST', path: '/servers', key: workers.key, body }));
  }
  await Promise.all(asked);
}

async function countInFlight(site: PipelineSite): Promise<number> {
  const [row] = await site.query(
    'select count(*) as count from requests where ended_at is null and completed_at is null',
  );
  return Number(row?.['count']);
}

async function unserved(site: PipelineSite, before: number): Promise<number> {
  const [row] = await site.query(
    `select count(*) as count from requests where completed_at is null and created_at < ${String(before)}`,
  );
  return Number(row?.['count']);
}
