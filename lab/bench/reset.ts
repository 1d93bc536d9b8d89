import { join } from 'node:path';

import { until } from '../process/until.ts';
import { seconds } from '../sim/delays.ts';
import { hardwareModels } from '../sim/models.ts';
import type { SimulatedSite } from '../sim/site.ts';
import { openSimulatedSite } from '../sim/site.ts';
import type { Server, Timeline } from '../site/server.ts';
import { lessIsBetter, percentile } from './report.ts';
import type { Row } from './report.ts';

/** Orders of each case; they make a p99 of two. */
const ORDERS = 208;
/** A BMC takes 30 commands at once and 10 a second (an order and its release are 17): the rotation lets them rest. */
const MACHINES = 16;
const AT_ONCE = 8;
const AIM_MS = 50;
/** From the power-on to the first packet, as long as many servers take: orders are taken back before they are claimed. */
const FIRMWARE = seconds(15, 15, 15);

/**
 * From the moment when a client begins to send `POST /api/v1/servers` to the command that switches the machine on, as the
 * timeline has it: a real daemon on SQLite, simulated BMCs in another process and network namespace, so that our way is
 * measured and not what a real BMC takes.
 */
export async function orderToReset(directory: string, say: (line: string) => void): Promise<Row[]> {
  const site = await openSimulatedSite({
    ...{ name: 'bench', directory: join(directory, 'site'), machines: MACHINES },
    // The nth has n cores, so that an order of n cores fits it best.
    hardware: (cores) => ({ ...hardwareModels[0]!, cores, post: FIRMWARE }),
  });
  try {
    say(`inspecting ${MACHINES} simulated machines`);
    await site.enrol(site.machines);
    for (const { cores } of site.machines.map(({ hardware }) => hardware)) await orderAndRelease(site, cores); // opens the sessions, warms the code up

    const alone: Latency[] = [];
    for (let index = 0; index < ORDERS; index++) alone.push(await orderAndRelease(site, 1 + (index % MACHINES)));
    const oneByOne = rowOf('POST to reset, one at a time', alone, say);

    const together: Latency[] = [];
    for (let round = 0; together.length < ORDERS; round++) {
      // All want the same shape, so that they want the same machines; each half of the rack rests every other round.
      const cores = round % 2 === 0 ? 1 : 1 + MACHINES / 2;
      const orders = Array.from({ length: AT_ONCE }, () => orderAndRelease(site, cores));
      together.push(...(await Promise.all(orders)));
    }
    return [oneByOne, rowOf(`POST to reset, ${AT_ONCE} at once`, together, say)];
  } finally {
    await site.close();
  }
}

interface Latency {
  /** From the client's clock before it connects. */
  readonly sinceSent: number;
  /** From the time stamped on the request inside its transaction. */
  readonly sinceCreated: number;
}

/** Leaves the machine free again: an order that was never claimed has touched no disk. */
async function orderAndRelease(site: SimulatedSite, cores: number): Promise<Latency> {
  const sentAt = Date.now();
  const { id, createdAt } = (await site.order('bench', cores)) as Server & { createdAt: string };
  const reset = await until('the power command', 10_000, async () => {
    const { entries } = await site.tenant.get<Timeline>(`/servers/${id}/timeline`);
    return entries.find(({ source, name }) => source === 'bmc' && name.startsWith('Chassis Control'));
  });
  await site.tenant.delete(`/servers/${id}`);
  await until('the release', 20_000, async () => {
    const { state } = await site.tenant.get<Server>(`/servers/${id}`);
    return state === 'rolled-back';
  });
  const resetAt = Date.parse(reset.at);
  return { sinceSent: resetAt - sentAt, sinceCreated: resetAt - Date.parse(createdAt) };
}

/** One row: only the p99 has an aim. The rest is told on the way. */
function rowOf(title: string, latencies: readonly Latency[], say: (line: string) => void): Row {
  const sent = latencies.map(({ sinceSent }) => sinceSent);
  const created = latencies.map(({ sinceCreated }) => sinceCreated);
  const figures = (values: number[]) =>
    [0.5, 0.9, 0.99].map((share) => `p${share * 100} ${percentile(values, share)}`).join(', ') +
    `, max ${Math.max(...values)}`;
  say(`${title}, ${latencies.length} orders, ms since sent: ${figures(sent)}; since created: ${figures(created)}`);
  const ours = percentile(sent, 0.99);
  return lessIsBetter({ case: `${title}, p99`, unit: 'ms', ours, peer: AIM_MS, peerName: 'aim', aim: 1 });
}
