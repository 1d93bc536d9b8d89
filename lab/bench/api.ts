import { setTimeout as pause } from 'node:timers/promises';

import { startPostgres } from '../test/postgres.ts';
import type { ApiSite } from './api-site.ts';
import { openApiSite } from './api-site.ts';
import { BareClient, toldBare } from './bare-client.ts';
import type { Distribution } from './prometheus.ts';
import { histogram, since } from './prometheus.ts';
import type { Bench, Row } from './report.ts';
import { lessIsBetter, moreIsBetter, percentile } from './report.ts';

/**
 * Orders of servers by the public API of a daemon in a process of its own, on a database that is as durable as an operator's.
 * The stages are what the daemon itself tells (`rackstart_order_stage_seconds`), percentiles as Prometheus reckons them: within
 * a bucket, values count as spread evenly. Each order is placed on a machine, whose BMC answers nobody: it goes no further.
 *
 * For development: `RACKSTART_SITES=PostgreSQL` has one of the databases.
 */
export const bench: Bench = {
  name: 'api',
  about:
    'servers ordered on SQLite and PostgreSQL: requests/s, and authentication, validation, quota, placement beside limits',

  async run(say) {
    const wanted = process.env['RACKSTART_SITES']?.split(',') ?? ['SQLite', 'PostgreSQL'];
    const rows = wanted.includes('SQLite') ? await measured('SQLite', undefined, say) : [];
    if (!wanted.includes('PostgreSQL')) return rows;
    const postgres = await startPostgres({ settings: durable });
    try {
      return [...rows, ...(await measured('PostgreSQL', postgres.url, say))];
    } finally {
      await postgres.stop();
    }
  },
};

// Tests run without them.
const durable = { fsync: 'on', synchronous_commit: 'on', full_page_writes: 'on' };

const ORDERS = 1_000;
/** Requests a second at which stages are held against their limits: a room of 1,000 machines, ordered in less than half a minute. */
const STEADY = 40;
const CALLERS = 8;

/** What the documents allow each stage, in milliseconds. */
const limits = { auth: 5, validation: 2, quota: 8, placement: 15 } as const;
type Stage = keyof typeof limits;
const names: Readonly<Record<Stage, string>> = {
  auth: 'authentication',
  validation: 'validation',
  quota: 'quota',
  placement: 'placement',
};

async function measured(database: string, store: string | undefined, say: (line: string) => void): Promise<Row[]> {
  say(`${database}: a daemon with ${2 * ORDERS} free machines`);
  const site = await openApiSite({ machines: 2 * ORDERS, ...(store !== undefined && { store }) });
  try {
    // Code that runs for the first time is slow, and says nothing of what comes after.
    await stagesOf(site, () => flatOut(site, 100));
    const bare = store === undefined ? undefined : new BareClient(store, STEADY);
    const steady = await stagesOf(site, () => steadily(site, ORDERS));
    say(told(`${database}, ${STEADY} orders a second`, steady));
    if (bare !== undefined) say(toldBare(await bare.stop()));
    const flat = await stagesOf(site, () => flatOut(site, ORDERS - 100));
    say(told(`${database}, as fast as ${CALLERS} callers can`, flat));
    const rate = (1_000 * flat.answers.length) / flat.ms;
    return [
      moreIsBetter({
        ...{ case: `${database}: servers ordered by ${CALLERS} callers`, unit: 'requests/s' },
        ...{ ours: rate, peer: STEADY, peerName: 'steady load', aim: 1 },
      }),
      ...Object.entries(limits).flatMap(([stage, limit]) => {
        const { p50, p99 } = steady.stages[stage as Stage];
        const title = `${database}: ${names[stage as Stage]}, ${STEADY} orders/s`;
        const beside = { unit: 'ms', peer: limit, peerName: 'limit', aim: 1 };
        return [
          lessIsBetter({ case: `${title}, p50`, ours: p50, ...beside }),
          lessIsBetter({ case: `${title}, p99`, ours: p99, ...beside }),
        ];
      }),
    ];
  } finally {
    await site.close();
  }
}

interface Measured {
  readonly ms: number;
  /** What callers waited for each answer, in milliseconds. */
  readonly answers: readonly number[];
  readonly stages: Readonly<Record<Stage, Distribution>>;
}

/** What the daemon tells of the stages of these orders, once all of them have been placed. */
async function stagesOf(site: ApiSite, ordering: () => Promise<number[]>): Promise<Measured> {
  const before = await site.metrics();
  const began = performance.now();
  const answers = await ordering();
  const ms = performance.now() - began;
  const placed = histogram(before, METRIC, 'stage="placement"').count + answers.length;
  const after = await site.metricsOnce((text) => histogram(text, METRIC, 'stage="placement"').count >= placed);
  const stage = (name: Stage) => {
    const labels = `stage="${name}"`;
    return since(histogram(before, METRIC, labels), histogram(after, METRIC, labels));
  };
  const stages = { auth: stage('auth'), validation: stage('validation'), quota: stage('quota') };
  return { ms, answers, stages: { ...stages, placement: stage('placement') } };
}

const METRIC = 'rackstart_order_stage_seconds';

/** One order after another for each caller. */
async function flatOut(site: ApiSite, count: number): Promise<number[]> {
  const answers: number[] = [];
  let left = count;
  const caller = async () => {
    while (left-- > 0) answers.push(await timed(() => site.order()));
  };
  await Promise.all(Array.from({ length: CALLERS }, caller));
  return answers;
}

/** Whether or not those before have been answered, as callers who know nothing of each other do. */
async function steadily(site: ApiSite, count: number): Promise<number[]> {
  const began = performance.now();
  const answers: Promise<number>[] = [];
  for (let index = 0; index < count; index++) {
    await pause(Math.max(0, began + (index * 1_000) / STEADY - performance.now()));
    answers.push(timed(() => site.order()));
  }
  return Promise.all(answers);
}

async function timed(work: () => Promise<void>): Promise<number> {
  const began = performance.now();
  await work();
  return performance.now() - began;
}

function told(title: string, { ms, answers, stages }: Measured): string {
  const figures = (p50: number, p99: number) => `p50 ${p50.toFixed(2)}, p99 ${p99.toFixed(2)}`;
  const lines = Object.entries(stages).map(
    ([stage, { count, p50, p99 }]) => `  ${names[stage as Stage].padEnd(15)} ${figures(p50, p99)} ms, of ${count}`,
  );
  const whole = `  ${'whole answer'.padEnd(15)} ${figures(percentile(answers, 0.5), percentile(answers, 0.99))} ms`;
  return [`${title}: ${((1_000 * answers.length) / ms).toFixed(0)} orders/s`, whole, ...lines].join('\n');
}
