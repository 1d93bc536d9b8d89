import { toldBare } from './bare-client.ts';
import { queued } from './pipeline-queue.ts';
import type { QueuedLoad, QueueFigures } from './pipeline-queue.ts';
import type { SiteKind } from './pipeline-site.ts';
import { steady } from './pipeline-steady.ts';
import type { SteadyFigures, SteadyLoad } from './pipeline-steady.ts';
import { lessIsBetter, moreIsBetter, percentile } from './report.ts';
import type { Bench, Row } from './report.ts';

/**
 * Real daemons on a real database, and a provider that is simulated, so that its part of every request is known. Database,
 * daemons and whoever orders share this machine.
 *
 * For development: `RACKSTART_SHORT=1` has a fifth of the load, `RACKSTART_SITES=SQLite-1,PostgreSQL-4` some of the sites.
 */
export const bench: Bench = {
  name: 'pipeline',
  about: '1,000 requests in flight on a simulated provider, then 10,000 queued by 50 tenants; 1, 2 and 4 daemons',
  definitions: [
    'overhead: from created_at to completed_at of the request, without what its provider took: four calls, each of the same',
    '  length, the start of the server as the cluster recorded it (ready_at - created_at), and the probe.',
    'picked up: from created_at of the request to started_at of its first step; there is room for all (fairness.perTenant and',
    '  inAll are raised, 50 tenants).',
    'in flight: orders come evenly, at the rate at which so many are in flight for as long as the provider takes; the median.',
    'queued: 10,000 of 50 tenants, one of which has 5,100 and came first, at 40 a tenant and 1,000 in all; calls take 20 ms.',
    'wait: from the first turn given to the turn of the request (requests.dispatched_at).',
  ],

  async run(say) {
    const rows: Row[] = [];
    for (const site of sites()) rows.push(...(await measured(site, say)));
    return rows;
  },
};

interface Site {
  readonly kind: SiteKind;
  readonly workers: number;
}

function sites(): readonly Site[] {
  const all: readonly Site[] = [
    { kind: 'SQLite', workers: 1 },
    { kind: 'PostgreSQL', workers: 1 },
    { kind: 'PostgreSQL', workers: 2 },
    { kind: 'PostgreSQL', workers: 4 },
  ];
  const wanted = process.env['RACKSTART_SITES']?.split(',');
  return all.filter(({ kind, workers }) => wanted?.includes(`${kind}-${String(workers)}`) ?? true);
}

function loads(): { even: SteadyLoad; full: QueuedLoad } {
  const isShort = process.env['RACKSTART_SHORT'] !== undefined;
  const seconds = isShort ? 8 : 40;
  const start = { least: 750 * seconds, usual: 1_000 * seconds, most: 1_250 * seconds };
  const brief = { call: 20, probe: 10, start: { least: 100, usual: 150, most: 200 } };
  return {
    even: { inFlight: 25 * seconds, tenants: 50, times: { call: 200, probe: 50, start } },
    full: {
      ...{ tenants: 50, times: brief },
      ...(isShort
        ? { each: 20, greedy: 1_020, perTenant: 8, inAll: 200 }
        : { each: 100, greedy: 5_100, perTenant: 40, inAll: 1_000 }),
    },
  };
}

async function measured({ kind, workers }: Site, say: (line: string) => void): Promise<Row[]> {
  const { even, full } = loads();
  const name = `${kind}, ${String(workers)} worker${workers === 1 ? '' : 's'}`;
  const steadily = await steady(kind, workers, even);
  tellSteady(name, steadily, say);
  const drained = await queued(kind, workers, full, say);
  say(`${name}, queued: ${JSON.stringify(drained)}`);
  return [...steadyRows(name, steadily, even), ...queueRows(name, drained)];
}

/** What has no limit of its own. */
function tellSteady(name: string, figures: SteadyFigures, say: (line: string) => void): void {
  const { overheads, pickUps, parts, bare, ...rest } = figures;
  const shares = (values: readonly number[]) =>
    [0.5, 0.9, 0.99, 1].map((share) => `p${String(share * 100)} ${String(percentile(values, share))}`).join(', ');
  say(
    `${name}: ${String(overheads.length)} requests; overhead, ms: ${shares(overheads)}; picked up: ${shares(pickUps)}`,
  );
  for (const [part, { p50, p99 }] of Object.entries(parts)) say(`  ${part}: p50 ${String(p50)}, p99 ${String(p99)}`);
  if (bare !== undefined) say(toldBare(bare));
  say(`  ${JSON.stringify(rest)}`);
}

function steadyRows(name: string, figures: SteadyFigures, { inFlight }: SteadyLoad): Row[] {
  const limit = { peerName: 'limit', aim: 1 };
  const { overheads, pickUps, peakMib } = figures;
  const ms = { unit: 'ms', ...limit };
  return [
    moreIsBetter({
      ...{ case: `${name}: in flight`, unit: 'requests', ours: figures.inFlight, peer: inFlight },
      ...{ peerName: 'asked', aim: 0.95 },
    }),
    lessIsBetter({ case: `${name}: overhead, p50`, ours: percentile(overheads, 0.5), peer: 100, ...ms }),
    lessIsBetter({ case: `${name}: overhead, p99`, ours: percentile(overheads, 0.99), peer: 100, ...ms }),
    lessIsBetter({ case: `${name}: picked up, p99`, ours: percentile(pickUps, 0.99), peer: 200, ...ms }),
    lessIsBetter({ case: `${name}: resident memory, peak`, unit: 'MiB', ours: peakMib, peer: 512, ...limit }),
  ];
}

// 1,000 deploys in flight that take 47 s, as those of real machines may (config.ts, `deployMedianSeconds`), are 21.3 a second.
const NEEDED_PER_SECOND = 21.3;
/** Of a request on the simulated provider: counted. */
const EVENTS_A_REQUEST = 16;

function queueRows(name: string, figures: QueueFigures): Row[] {
  const { requestsPerSecond, eventsPerSecond, firstTurnSeconds, inOrderSeconds, largestMeanWait, meanWait } = figures;
  const needed = { peerName: 'needed', aim: 1 };
  return [
    moreIsBetter({
      ...{ case: `${name}, queued: requests`, unit: '/s', ours: requestsPerSecond, peer: NEEDED_PER_SECOND, ...needed },
    }),
    moreIsBetter({
      ...{ case: `${name}, queued: events appended`, unit: '/s', ours: eventsPerSecond },
      ...{ peer: NEEDED_PER_SECOND * EVENTS_A_REQUEST, ...needed },
    }),
    lessIsBetter({
      ...{ case: `${name}, queued: a tenant's first turn, the last`, unit: 's', ours: firstTurnSeconds },
      ...{ peer: inOrderSeconds, peerName: 'in order', aim: 10 },
    }),
    lessIsBetter({
      ...{ case: `${name}, queued: mean wait of a tenant, the largest of 49`, unit: 's', ours: largestMeanWait },
      ...{ peer: meanWait, peerName: 'their mean', aim: 0.9 },
    }),
    lessIsBetter({
      ...{ case: `${name}, queued: turns of the greedy one meanwhile`, unit: 'shares', ours: figures.greedyShare },
      ...{ peer: 1, peerName: 'equal', aim: 0.8 },
    }),
  ];
}
