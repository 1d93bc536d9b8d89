import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { until } from '../process/until.ts';
import { tally } from '../sim/event-follower.ts';
import type { SimulatedSite } from '../sim/site.ts';
import { inTurns, openSimulatedSite } from '../sim/site.ts';
import type { Statistics } from '../sim/statistics.ts';
import { lessIsBetter, moreIsBetter } from './report.ts';
import type { Bench, Row } from './report.ts';
import { wireTimes } from './wire-times.ts';

/**
 * A fleet that speaks the real protocols over real sockets, from one process beside the daemon; both share this machine. How long
 * the appliance takes is read off the wire, where the kernel stamps the packets; what the machines themselves saw, each after its
 * turn in a busy process, is told beside it.
 */
export const bench: Bench = {
  name: 'fleet',
  about: '1,000 simulated machines powered on at once, then 10,000 registered with 500 booting: answers, memory, CPU',

  async run(say) {
    const directory = await mkdtemp(join(tmpdir(), 'rs-fleet-'));
    try {
      return [...(await allAtOnce(join(directory, 'a'), say)), ...(await manyRegistered(join(directory, 'b'), say))];
    } finally {
      await rm(directory, { recursive: true });
    }
  },
};

const REQUESTS_AT_ONCE = 16;
const INSPECTED_AT_ONCE = 200;
/** Of the whole fleet, from the moment the mains are back. */
const BOOT_MS = 10 * 60_000;
const MIB = 1024 ** 2;
// DHCP, and the boot plane's HTTP in the clear.
const BOOTING = 'udp port 67 or udp port 68 or tcp port 8080';

/** Everything in real time: a storm of inspections, then one of deploys up to a verified login. */
async function allAtOnce(directory: string, say: (line: string) => void): Promise<Row[]> {
  const machines = 1_000;
  const site = await openSimulatedSite({ name: 'fleet', directory, machines });
  const limits = { machines, rss: 512, directory };
  try {
    const inspections = await storm('inspected', site, limits, say, async () => {
      const ids = await inTurns(site.machines, REQUESTS_AT_ONCE, (machine) => site.register(machine));
      return { ended: () => ids.map((id) => site.follower.machines.get(id)), good: 'available', bad: ['quarantined'] };
    });
    const deploys = await storm('deployed', site, limits, say, async () => {
      const ids = await orders(site, machines);
      const bad = ['failed', 'rolling-back', 'rolled-back'];
      return { ended: () => ids.map((id) => site.follower.requests.get(id)), good: 'completed', bad };
    });
    return [...inspections, ...deploys];
  } finally {
    await site.close();
  }
}

/**
 * In compressed time, in which the fleet is racked within minutes: four times as many come at once as in real time, so that what
 * they wait is told, and not held against the limits.
 */
async function manyRegistered(directory: string, say: (line: string) => void): Promise<Row[]> {
  const [registered, booting] = [10_000, 500];
  const site = await openSimulatedSite({ name: 'large', directory, machines: registered, speed: 4 });
  try {
    say(`registering and inspecting ${registered} machines`);
    await inspectAll(site, say);
    return await storm(
      `deployed, ${registered} registered`,
      site,
      { machines: booting, rss: 1_024, directory },
      say,
      async () => {
        const ids = await orders(site, booting);
        const bad = ['failed', 'rolling-back', 'rolled-back'];
        return { ended: () => ids.map((id) => site.follower.requests.get(id)), good: 'completed', bad };
      },
    );
  } finally {
    await site.close();
  }
}

/** Some at a time: a room is not racked in one moment, and what waits for an appliance in compressed time gives up four times as soon. */
async function inspectAll(site: SimulatedSite, say: (line: string) => void): Promise<void> {
  const { machines, follower } = site;
  const ids: string[] = [];
  const underWay = () => ids.filter((id) => follower.machines.get(id) !== 'available');
  const atMost = (count: number) =>
    follower.until(
      () => tally(ids.map((id) => String(follower.machines.get(id)))),
      BOOT_MS,
      () => underWay().length <= count,
    );
  for (let at = 0; at < machines.length; at += INSPECTED_AT_ONCE) {
    const some = machines.slice(at, at + INSPECTED_AT_ONCE);
    ids.push(...(await inTurns(some, REQUESTS_AT_ONCE, (machine) => site.register(machine))));
    await atMost(INSPECTED_AT_ONCE);
    if (ids.length % 2_000 === 0) say(`  ${ids.length} registered, ${underWay().length} of them under inspection`);
  }
  await atMost(0);
}

/** All of the smallest shape, which fits every machine: none is left without. */
async function orders(site: SimulatedSite, count: number): Promise<string[]> {
  const cores = Math.min(...site.machines.map(({ hardware }) => hardware.cores));
  const hostnames = Array.from({ length: count }, (_, index) => `fleet-${index}`);
  return inTurns(hostnames, REQUESTS_AT_ONCE, async (hostname) => (await site.order(hostname, cores)).id);
}

/** What was set going: the states of its subjects, which of them ends well, and which ends the bench. */
interface UnderWay {
  readonly ended: () => readonly (string | undefined)[];
  readonly good: string;
  readonly bad: readonly string[];
}

/** `begin` has machines started by their BMCs while the mains are off; when they come back, all boot in the same moment. */
async function storm(
  title: string,
  site: SimulatedSite,
  { machines, rss, directory }: { machines: number; rss: number; directory: string },
  say: (line: string) => void,
  begin: () => Promise<UnderWay>,
): Promise<Row[]> {
  const { simulation, daemon, follower } = site;
  await simulation.cutMains();
  const { ended, good, bad } = await begin();
  await until(
    `the power-on of ${machines} machines`,
    BOOT_MS,
    async () => (await simulation.statistics()).on === machines,
  );
  const packets = join(directory, 'packets.pcap');
  const capture = await simulation.rack.capture(packets, { filter: BOOTING, bytes: 2_000 });
  await simulation.forget();
  await forgetPeak(daemon.pid);
  const before = await cpuSeconds(daemon.pid);
  const began = performance.now();
  await simulation.restoreMains();
  await follower.until(
    () => tally(ended().map(String)),
    BOOT_MS,
    () => ended().every((state) => state === good || bad.includes(state ?? '')),
  );
  const seconds = (performance.now() - began) / 1_000;
  const cores = ((await cpuSeconds(daemon.pid)) - before) / seconds;
  const statistics = await simulation.statistics();
  await capture.stop();
  const { dhcp, script } = await wireTimes(packets);
  const peak = (await peakBytes(daemon.pid)) / MIB;
  const done = ended().filter((state) => state === good).length;
  say(`${machines} at once, ${title}: ${done} in ${seconds.toFixed(0)} s; ${tally(ended().map(String))}`);
  say(toldBy(statistics));
  for (const [what, { count, p50, p99, max }] of Object.entries({ dhcp, script })) {
    say(`  on the wire: ${count} ${what} answers, ms: p50 ${p50}, p99 ${p99}, max ${max}`);
  }

  const name = `${machines} at once, ${title}`;
  const limit = { peerName: 'limit', aim: 1 };
  const answers = [
    lessIsBetter({ case: `${name}: DHCP answer, p99`, unit: 'ms', ours: dhcp.p99, peer: 50, ...limit }),
    lessIsBetter({ case: `${name}: boot script, p99`, unit: 'ms', ours: script.p99, peer: 100, ...limit }),
  ];
  return [
    moreIsBetter({ case: name, unit: 'machines', ours: done, peer: machines, peerName: 'all', aim: 1 }),
    ...(simulation.speed === 1 ? answers : []),
    lessIsBetter({ case: `${name}: resident memory, peak`, unit: 'MiB', ours: peak, peer: rss, ...limit }),
    lessIsBetter({ case: `${name}: CPU of the daemon alone`, unit: 'cores', ours: cores, peer: 1, ...limit }),
  ];
}

function toldBy({ answers, counts, lateness, cpuMs }: Statistics): string {
  const times = Object.entries(answers).map(
    ([what, { count, p50, p99, max }]) =>
      `  ${what.padEnd(11)} ${count} answers, ms: p50 ${p50}, p99 ${p99}, max ${max}`,
  );
  const simulator = `  simulator   late by p99 ${lateness.p99} ms, max ${lateness.max}; CPU ${(cpuMs / 1_000).toFixed(1)} s`;
  return [...times, `  ${JSON.stringify(counts)}`, simulator].join('\n');
}

// proc(5): utime and stime are the fields 14 and 15 of stat, in ticks of which Linux has 100 a second.
async function cpuSeconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

// proc(5), clear_refs: 5 resets the peak to what is resident now.
function forgetPeak(pid: number): Promise<void> {
  return writeFile(`/proc/${pid}/clear_refs`, '5');
}

async function peakBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
}
