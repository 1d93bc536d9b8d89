import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

import { CHUNK_BYTES } from '../../images/zstd-frames.ts';
import { tinyDisk } from '../disk/tiny-disk.ts';
import { run } from '../process/run.ts';
import { until } from '../process/until.ts';
import { seconds } from '../sim/delays.ts';
import { tally } from '../sim/event-follower.ts';
import type { Distribution } from '../sim/histogram.ts';
import { hardwareModels } from '../sim/models.ts';
import type { SimulatedRack } from '../sim/rack.ts';
import type { SimulatedSite } from '../sim/site.ts';
import { inTurns, openSimulatedSite } from '../sim/site.ts';
import type { Statistics } from '../sim/statistics.ts';
import { cpuSeconds, forgetPeak, peakBytes } from './daemon-cost.ts';
import { lessIsBetter, moreIsBetter, percentile } from './report.ts';
import type { Bench, Row } from './report.ts';
import { dhcpTimes } from './wire-times.ts';

/**
 * A room of machines, ordered and powered on at once, that take one image from a real daemon; they, all in one process, and
 * the daemon share this machine. The cable from the appliance to all of them carries 1 Gbit/s (tc-tbf(8)).
 *
 * For development: `RACKSTART_SHORT=1` has a tenth of the machines, and a slower link.
 */
export const bench: Bench = {
  name: 'storm',
  about: '200 simulated machines take one image through one shared 1 Gbit/s link; DHCP and API meanwhile',
  definitions: [
    'streamed: from the last look, one each 50 ms, at which no machine had fetched anything of the image to the first at which',
    '  all machines had all chunks, each held against its digest.',
    'wire time: the compressed image, once for each machine, at the rate of the link. Headers (4.4 %) and what is sent twice',
    '  are not in it. The link holds back what goes to machines; what they send is a hundredth of it.',
    'DHCP answer: as in `fleet`, stamped by the kernel on the daemon’s own interface, while the image streams: of machines',
    '  that are inspected meanwhile, two more each second.',
    'The rack has less priority than the daemon: its machines stand for computers of their own.',
    'API answer: GET of a server by its tenant, 20 a second while the image streams, as the client sees it.',
  ],

  async run(say) {
    const directory = await mkdtemp(join(tmpdir(), 'rs-storm-'));
    try {
      return await stormOf(load(), directory, say);
    } finally {
      await rm(directory, { recursive: true });
    }
  },
};

interface Load {
  /** Those that take the image. */
  readonly machines: number;
  /** At most so many come and are inspected meanwhile. */
  readonly guests: number;
  /** Of the disk in the image, which no compression makes smaller. */
  readonly diskMib: number;
  readonly mbitPerSecond: number;
}

function load(): Load {
  return process.env['RACKSTART_SHORT'] === undefined
    ? { machines: 200, guests: 160, diskMib: 32, mbitPerSecond: 1_000 }
    : { machines: 20, guests: 40, diskMib: 8, mbitPerSecond: 100 };
}

/** Firmware that is soon done: they come together, and the bench is about what follows. */
const HARDWARE = { ...hardwareModels[0]!, post: seconds(2, 3, 4) };
const MIB = 1024 ** 2;
/** From the first machine's registration to the end of all. */
const WITHIN_MS = 200_000;
const ORDERS_AT_ONCE = 16;
const GUESTS_PER_SECOND = 2;
const POLLS_PER_SECOND = 20;

async function stormOf(wanted: Load, directory: string, say: (line: string) => void): Promise<Row[]> {
  const { machines, guests, diskMib, mbitPerSecond } = wanted;
  const bytes = diskMib * MIB;
  const site = await openSimulatedSite({
    ...{ name: 'storm', directory: join(directory, 'site'), machines: machines + guests, hardware: () => HARDWARE },
    disk: tinyDisk(bytes, randomBytes(bytes)),
  });
  try {
    await narrow(site.simulation, mbitPerSecond);
    // It takes more of the processors than the daemon, and where machines are real, none of the daemon's.
    await run(['renice', '-n', '10', '-p', String(site.simulation.pid)]);
    const { images } = await site.operator.get<{ images: { bytes: number }[] }>('/images');
    const wireSeconds = (images[0]!.bytes * machines * 8) / (mbitPerSecond * 1e6);
    say(`${machines} machines are inspected; the image will take ${wireSeconds.toFixed(1)} s of the link`);
    const seen = await storm(site, { ...wanted, packets: join(directory, 'packets.pcap') });
    for (const line of toldBy(seen)) say(line);
    return rowsOf(seen, wanted, wireSeconds);
  } finally {
    await site.close();
  }
}

/**
 * What leaves the appliance's switch for the machines. The queue in front is a switch's: the oldest first, full at 30 ms. A
 * burst is two of the largest packets that the kernel hands down whole.
 */
async function narrow({ rack }: SimulatedRack, mbitPerSecond: number): Promise<void> {
  const tbf = ['tbf', 'rate', `${mbitPerSecond}mbit`, 'burst', '128kb', 'latency', '30ms'];
  await run(rack.exec(['tc', 'qdisc', 'replace', 'dev', PORT, 'root', ...tbf]));
}

const PORT = 'port';

interface Carried {
  /** With the headers of each packet. */
  readonly bytes: number;
  readonly drops: number;
}

async function carried({ rack }: SimulatedRack): Promise<Carried> {
  const said = await run(rack.exec(['tc', '-s', '-j', 'qdisc', 'show', 'dev', PORT]));
  return (JSON.parse(said) as [Carried])[0];
}

interface Seen {
  readonly streamSeconds: number;
  /** How many machines were deployed up to a verified login. */
  readonly deployed: number;
  readonly guests: string;
  readonly dhcp: Distribution;
  /** ms. */
  readonly apiAnswers: readonly number[];
  readonly link: Carried;
  /** Of the daemon, while the image streamed. */
  readonly cores: number;
  readonly peakBytes: number;
  /** As of the last chunk. */
  readonly statistics: Statistics;
}

async function storm(site: SimulatedSite, plan: Load & { packets: string }): Promise<Seen> {
  const { simulation, daemon, follower, machines: all } = site;
  const deadline = performance.now() + WITHIN_MS;
  const left = () => Math.max(0, deadline - performance.now());
  const takers = all.slice(0, plan.machines);
  await site.enrol(takers, left());
  await simulation.cutMains();
  const servers = await inTurns(takers, ORDERS_AT_ONCE, ({ hardware }, index) =>
    site.order(`storm-${index}`, hardware.cores),
  );
  const allOn = async () => (await simulation.statistics()).on === takers.length;
  await until(`the power-on of ${takers.length} machines`, left(), allOn);
  await simulation.forget();
  await forgetPeak(daemon.pid);
  const over = new AbortController();
  try {
    await simulation.restoreMains();
    const coming = all.slice(takers.length).values();
    const guests = steadily(GUESTS_PER_SECOND, over.signal, async () => {
      const { value: guest } = coming.next();
      return guest && (await site.register(guest));
    });

    const began = await firstFetch(simulation, left());
    const [linkBefore, cpuBefore] = [await carried(simulation), await cpuSeconds(daemon.pid)];
    const capture = await simulation.rack.capture(plan.packets, { filter: 'udp port 67 or udp port 68', bytes: 600 });
    const polls = steadily(POLLS_PER_SECOND, over.signal, () =>
      timed(() => site.tenant.get(`/servers/${servers[0]!.id}`)),
    );
    const chunks = Math.ceil((plan.diskMib * MIB) / CHUNK_BYTES);
    const statistics = await allFetched(simulation, takers.length * (1 + chunks), left());
    const streamSeconds = (performance.now() - began) / 1_000;
    over.abort();
    const cores = ((await cpuSeconds(daemon.pid)) - cpuBefore) / streamSeconds;
    const linkAfter = await carried(simulation);
    await capture.stop();

    const apiAnswers = await polls;
    const guestIds = (await guests).filter((id) => id !== undefined);
    const orders = () => servers.map(({ id }) => String(follower.requests.get(id)));
    const inspections = () => guestIds.map((id) => follower.machines.get(id) ?? 'enrolled');
    await follower.until(
      () => `${tally(orders())}; ${tally(inspections())}`,
      left(),
      () => orders().every((state) => ENDS.has(state)) && inspections().every((state) => INSPECTED.has(state)),
    );
    return {
      ...{ streamSeconds, apiAnswers, cores, statistics, dhcp: await dhcpTimes(plan.packets) },
      deployed: orders().filter((state) => state === 'completed').length,
      guests: tally(inspections()),
      link: { bytes: linkAfter.bytes - linkBefore.bytes, drops: linkAfter.drops - linkBefore.drops },
      peakBytes: await peakBytes(daemon.pid),
    };
  } finally {
    over.abort();
  }
}

const ENDS: ReadonlySet<string> = new Set(['completed', 'failed', 'rolling-back', 'rolled-back']);
const INSPECTED: ReadonlySet<string> = new Set(['available', 'quarantined']);

/** Resolves, when a machine has the image's map, to the last time at which none had. */
async function firstFetch(simulation: SimulatedRack, withinMs: number): Promise<number> {
  let none = performance.now();
  await until('a machine that fetches the image', withinMs, async () => {
    const lookedAt = performance.now();
    const hasOne = fetched(await simulation.statistics()) > 0;
    if (!hasOne) none = lookedAt;
    return hasOne;
  });
  return none;
}

async function allFetched(simulation: SimulatedRack, count: number, withinMs: number): Promise<Statistics> {
  return until(`${count} maps and chunks`, withinMs, async () => {
    const statistics = await simulation.statistics();
    return fetched(statistics) >= count && statistics;
  });
}

function fetched({ answers }: Statistics): number {
  return answers.image?.count ?? 0;
}

/** Calls `work` so often a second until it is over, whether or not those before have ended; what they all resolved to. */
async function steadily<T>(perSecond: number, over: AbortSignal, work: () => Promise<T>): Promise<T[]> {
  const began = performance.now();
  const results: Promise<T>[] = [];
  for (let index = 0; !over.aborted; index++) {
    const result = work();
    result.catch(() => undefined); // told at the end, with all of them
    results.push(result);
    await pause(Math.max(0, began + ((index + 1) * 1_000) / perSecond - performance.now()));
  }
  return Promise.all(results);
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return performance.now() - began;
}

/** What has no limit of its own. */
function toldBy(seen: Seen): string[] {
  const { streamSeconds, dhcp, apiAnswers, link, cores, statistics, guests } = seen;
  const { dhcp: waited, image } = statistics.answers;
  const api = [0.5, 0.99, 1].map((share) => percentile(apiAnswers, share).toFixed(1));
  const rate = (link.bytes * 8) / 1e6 / streamSeconds;
  return [
    `streamed in ${streamSeconds.toFixed(1)} s: ${rate.toFixed(0)} Mbit/s on the link, ${link.drops} drops; daemon ${cores.toFixed(2)} cores`,
    `  a fetch, ms: p50 ${image?.p50}, p99 ${image?.p99}, max ${image?.max}`,
    `  ${dhcp.count} DHCP answers on the wire, ms: p50 ${dhcp.p50}, p99 ${dhcp.p99}, max ${dhcp.max}; machines saw p99 ${waited?.p99}`,
    `  ${apiAnswers.length} API answers, ms: p50 ${api[0]}, p99 ${api[1]}, max ${api[2]}`,
    `  inspected meanwhile: ${guests}; ${JSON.stringify(statistics.counts)}`,
    `  simulator late by p99 ${statistics.lateness.p99} ms; CPU ${(statistics.cpuMs / 1_000).toFixed(1)} s since the power-on`,
  ];
}

function rowsOf(seen: Seen, { machines, diskMib, mbitPerSecond }: Load, wireSeconds: number): Row[] {
  const { deployed, streamSeconds, dhcp, apiAnswers } = seen;
  const name = `${machines} machines, ${diskMib} MiB each, ${mbitPerSecond} Mbit/s`;
  const limit = { peerName: 'limit', aim: 1 };
  const api = percentile(apiAnswers, 0.99);
  return [
    moreIsBetter({
      case: `${name}: deployed`,
      unit: 'machines',
      ours: deployed,
      peer: machines,
      peerName: 'all',
      aim: 1,
    }),
    lessIsBetter({
      ...{ case: `${name}: streamed`, unit: 's', ours: streamSeconds, peer: wireSeconds },
      ...{ peerName: 'wire time', aim: 0.91 },
    }),
    lessIsBetter({ case: `${name}: DHCP answer, p99`, unit: 'ms', ours: dhcp.p99, peer: 50, ...limit }),
    lessIsBetter({ case: `${name}: API answer, p99`, unit: 'ms', ours: api, peer: 100, ...limit }),
    lessIsBetter({
      ...{ case: `${name}: resident memory, peak`, unit: 'MiB', ours: seen.peakBytes / MIB, peer: 512, ...limit },
    }),
  ];
}
