import { until } from '../process/until.ts';
import { ask } from '../workers/client.ts';
import type { Workers } from '../workers/workers.ts';
import { eventsBetween, served } from './pipeline-figures.ts';
import type { PipelineSite, ProviderTimes } from './pipeline-site.ts';
import { clusters, describeSite, meter, openPipelineSite, orderOf } from './pipeline-site.ts';
import type { Cost, SiteKind } from './pipeline-site.ts';

export interface QueuedLoad {
  readonly tenants: number;
  /** Of each tenant but the first, who is greedy. */
  readonly each: number;
  readonly greedy: number;
  readonly perTenant: number;
  readonly inAll: number;
  readonly times: ProviderTimes;
}

export interface QueueFigures extends Cost {
  /** While requests were waiting. */
  readonly requestsPerSecond: number;
  readonly eventsPerSecond: number;
  readonly cpuPerRequestMs: number;
  /** From when the doors opened until a tenant's first turn: the longest of all tenants, s. */
  readonly firstTurnSeconds: number;
  /** The same, had they been served in the order in which they came. */
  readonly inOrderSeconds: number;
  /** How long a request of the modest tenants waited on average, s: of the tenant that waited most, and of all. */
  readonly largestMeanWait: number;
  readonly meanWait: number;
  /** The longest that any tenant with requests waiting was passed over, s. */
  readonly longestGap: number;
  /** Of the turns that were given while others waited too, beside an equal share of them. */
  readonly greedyShare: number;
}

const CLUSTERS = 16;
const ASKED_AT_ONCE = 4;
const BATCH = 100;
const SERVED_WITHIN_MS = 15 * 60_000;

/**
 * All requests are queued while the doors are closed, by a daemon that works on one at a time and never gets anywhere with
 * it; the greedy tenant's come first. Then they are opened, by the daemons that are measured.
 */
export async function queued(
  kind: SiteKind,
  count: number,
  load: QueuedLoad,
  say: (line: string) => void,
): Promise<QueueFigures> {
  const site = await openPipelineSite(kind);
  try {
    await fillQueue(site, load, say);
    const { perTenant, inAll, times } = load;
    const settings = [
      ...always,
      `fairness: { perTenant: ${String(perTenant)}, inAll: ${String(inAll)} }`,
      ...clusters(CLUSTERS, times),
    ];
    const workers = await site.start(count, settings);
    try {
      return await drained(site, workers, load);
    } finally {
      await workers.stop();
    }
  } finally {
    await site.close();
  }
}

const always = ['log: warn', 'api: { port: 0, rateLimit: { perSecond: 100000, burst: 100000 } }'];

async function fillQueue(site: PipelineSite, { tenants, each, greedy }: QueuedLoad, say: (line: string) => void) {
  const hour = 3_600_000;
  const closed = { call: hour, probe: hour, start: { least: hour, usual: hour, most: hour } };
  const settings = [...always, 'fairness: { perTenant: 1, inAll: 1 }', ...clusters(CLUSTERS, closed)];
  const workers = await site.start(1, settings);
  const ids = await describeSite(workers, tenants);
  const orders = ids.flatMap((tenant, index) => {
    const many = index === 0 ? greedy : each;
    const batches = Math.ceil(many / BATCH);
    return Array.from({ length: batches }, (_, at) => ({ tenant, many: Math.min(BATCH, many - at * BATCH) }));
  });
  let number = 0;
  const rest = orders.values();
  const lane = async () => {
    for (const { tenant, many } of rest) {
      const servers = Array.from({ length: many }, (_, index) => {
        return { ...orderOf((number += 1), CLUSTERS), name: `n${String(index)}` };
      });
      const asked = { method: 'POST', path: '/servers/batch', key: workers.key, body: { servers, tenant } } as const;
      await ask(workers, 0, asked);
    }
  };
  await Promise.all(Array.from({ length: ASKED_AT_ONCE }, lane));
  say(`${String(number)} are queued`);
  // In order it would wait for the one step that it works on.
  await workers.kill(0);
}

async function drained(
  site: PipelineSite,
  workers: Workers,
  { tenants, each, greedy }: QueuedLoad,
): Promise<QueueFigures> {
  const total = greedy + (tenants - 1) * each;
  const opened = Date.now();
  const read = await meter(workers);
  const before = await count(site, 'completed_at is not null');
  await until('the end of the queue', SERVED_WITHIN_MS, async () => {
    return (await count(site, `dispatched_at is null`)) === 0;
  });
  const emptied = Date.now();
  const cost = await read();
  const done = (await count(site, 'completed_at is not null')) - before;
  await until('the last of them', SERVED_WITHIN_MS, async () => {
    // The one that was held at the closed doors may have to wait for a lease to run out.
    return (await count(site, 'completed_at is not null')) >= total - 1;
  });
  const seconds = (emptied - opened) / 1_000;
  return {
    ...cost,
    requestsPerSecond: done / seconds,
    eventsPerSecond: await eventsBetween(site, opened, emptied),
    cpuPerRequestMs: (cost.cpuSeconds * 1_000) / done,
    ...(await fairness(site, { greedy, each })),
  };
}

/** In turns, by when they were given; the tenant with the most requests is the greedy one. */
async function fairness(site: PipelineSite, { greedy, each }: { greedy: number; each: number }) {
  const turns = (await served(site)).map(({ tenant, dispatchedAt }) => ({ tenant, at: dispatchedAt }));
  turns.sort((a, b) => a.at - b.at);
  // The first was given at the closed doors.
  const [, { at: opened } = { at: NaN }] = turns;
  const byTenant = [...Map.groupBy(turns.slice(1), ({ tenant }) => tenant).values()].map((own) =>
    own.map(({ at }) => (at - opened) / 1_000),
  );
  byTenant.sort((a, b) => b.length - a.length);
  const [greedyTurns = [], ...modest] = byTenant;
  const waits = modest.map((own) => own.reduce((sum, one) => sum + one, 0) / own.length);
  const lastModest = Math.max(...modest.map((own) => own.at(-1) ?? 0));
  const gaps = byTenant.flatMap((own) =>
    own.filter((at) => at <= lastModest).map((at, index) => at - (own[index - 1] ?? 0)),
  );
  const greedyMeanwhile = greedyTurns.filter((at) => at <= lastModest).length;
  const sharedTurns = turns.slice(1).filter(({ at }) => (at - opened) / 1_000 <= lastModest).length;
  const lastInOrder = turns[greedy + (modest.length - 1) * each + 1]?.at ?? NaN;
  return {
    firstTurnSeconds: Math.max(...byTenant.map((own) => own[0] ?? NaN)),
    inOrderSeconds: (lastInOrder - opened) / 1_000,
    largestMeanWait: Math.max(...waits),
    meanWait: waits.reduce((sum, one) => sum + one, 0) / waits.length,
    longestGap: Math.max(...gaps),
    greedyShare: greedyMeanwhile / (sharedTurns / byTenant.length),
  };
}

async function count(site: PipelineSite, condition: string): Promise<number> {
  const [row] = await site.query(`select count(*) as count from requests where ${condition}`);
  return Number(row?.['count']);
}
