import { mkdtemp, rm } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';

import { buildOsImage } from '../../images/os/build.ts';
import { buildRamdisk } from '../../images/ramdisk/build.ts';
import { until } from '../process/until.ts';
import type { Timeline } from '../site/server.ts';
import type { Site } from '../site/site.ts';
import { openSite } from '../site/site.ts';
import { lessIsBetter, median, medianInterval } from './report.ts';
import type { Bench, Row } from './report.ts';
import { firstBanner } from './warm/first-banner.ts';
import { Floor } from './warm/floor.ts';

/**
 * From the order of a server until its sshd says its first word, on a machine that waits in the ramdisk and on one that is off,
 * by turns with the floor (`warm/floor.ts`), all on emulated machines that are alike. WARM_ROUNDS (7) is how often.
 */
export const bench: Bench = {
  name: 'warm',
  about: 'an order until sshd answers, on a machine that waits in the ramdisk and on one that is off; beside the floor',
  definitions: [
    'floor: the same ramdisk writes the raw image by curl | dd and starts its kernel by kexec; nothing of ours between.',
    'Times are medians; in brackets where the median is, 95 times in 100 (with fewer than six runs all of them).',
    'warm: on a machine that waited until the image that is ordered most was on its disk (`pool.imageAhead`).',
    'own stages: all of a warm deploy but the writing of the image and the boot of the new system.',
  ],

  async run(say) {
    const directory = await mkdtemp(join(tmpdir(), 'rs-bench-warm-'));
    try {
      const machines = [MACHINE, FLOOR].map((name) => ({ name, firmware: 'bios', memoryMib: MEMORY_MIB }) as const);
      const site = await openSite({ name: 'warm', directory, machines, progress: say });
      try {
        return await compared(site, say);
      } finally {
        await site.close();
      }
    } finally {
      await rm(directory, { recursive: true });
    }
  },
};

/**
 * So much that the new system finds memory that no code has run in. In a smaller machine it writes where the ramdisk's code was, and with
 * each such page the emulator drops what it translated: in 1,024 MiB a new system took 23.6 s of CPU to start (894,000 such drops), in
 * 2,048 it took 15.6 and 18 (329,000 and 370,000). No real processor knows that.
 */
const MEMORY_MIB = 2_048;
const ROUNDS = Number(process.env['WARM_ROUNDS'] ?? 7);
const MACHINE = 'bios-1';
const FLOOR = 'floor-1';
/** The lowest of the servers' addresses, which is the only one that is ever held. */
const ADDRESS = '10.77.0.100';
const DEPLOY_MS = 10 * 60_000;

type Say = (line: string) => void;

async function compared(site: Site, say: Say): Promise<Row[]> {
  const cacheDirectory = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'rackstart');
  const floor = await Floor.open({
    ...{ rack: site.rack, machine: site.rack.machine(FLOOR), directory: join(site.directory, 'floor') },
    ramdisk: await buildRamdisk({ cacheDirectory, progress: say }),
    image: await buildOsImage({ cacheDirectory, name: 'debian-12', progress: say }),
  });
  const id = await site.enrol(MACHINE);
  const floors: number[] = [];
  const warm: Deploy[] = [];
  const cold: Deploy[] = [];
  for (let round = 1; round <= ROUNDS; round += 1) {
    const { seconds, written } = await floor.run();
    floors.push(seconds);
    say(`round ${String(round)}: floor ${seconds.toFixed(1)} s, written after ${written.toFixed(1)}`);
    // First the cold one: what was ordered tells what will be.
    cold.push(await deploy(site, 'cold', say));
    await release(site, id);
    await site.warm(id);
    await site.wroteAhead(MACHINE, round);
    warm.push(await deploy(site, 'warm', say));
    if (round < ROUNDS) await release(site, id);
  }
  return rows(floors, warm, cold);
}

function rows(floors: readonly number[], warm: readonly Deploy[], cold: readonly Deploy[]): Row[] {
  const runs = `${String(ROUNDS)} runs`;
  const besideFloor = (way: string, deploys: readonly Deploy[], aim: number) => {
    const seconds = deploys.map((each) => each.seconds);
    return lessIsBetter({
      case: `${way}: order to the first banner ${interval(seconds)}, floor ${interval(floors)}, ${runs}`,
      ...{ unit: 's', ours: median(seconds), peer: median(floors), peerName: 'floor', aim },
    });
  };
  const limited = (what: string, ofDeploy: (deploy: Deploy) => number, limit: number) => {
    const seconds = warm.map(ofDeploy);
    const figures = { unit: 's', ours: median(seconds), peer: limit, peerName: 'limit', aim: 1 };
    return lessIsBetter({ case: `warm: ${what} ${interval(seconds)}`, ...figures });
  };
  return [
    besideFloor('warm', warm, 0.909),
    // What the warm path is for: no aim of its own.
    besideFloor('cold', cold, 0),
    limited('own stages', ({ stages }) => sum(stages, (name) => name !== 'image' && name !== 'boot'), 1.5),
    limited('admitted until the machine has its order', ({ stages }) => sum(stages, isOnTheWay), 0.3),
  ];
}

const isOnTheWay = (name: string) => name === 'admit' || name === 'order';

interface Deploy {
  readonly seconds: number;
  /** Seconds, by name. */
  readonly stages: Readonly<Record<string, number>>;
}

async function deploy(site: Site, way: 'warm' | 'cold', say: Say): Promise<Deploy> {
  const banner = await firstBanner(site.rack, ADDRESS, join(site.directory, 'banner.log'));
  try {
    const began = performance.now();
    const { id } = await site.order('bench');
    await banner.said(DEPLOY_MS);
    const seconds = (performance.now() - began) / 1_000;
    const { state, failure, attempts, connection } = await site.settle(id, DEPLOY_MS);
    const path = attempts.map((attempt) => attempt.path).join(', ');
    if (state !== 'completed' || path !== way || connection?.addresses[0] !== ADDRESS) {
      throw new Error(`a ${way} deploy was ${path}, ${state}: ${failure?.message ?? 'no reason given'}`);
    }
    const timeline = await site.tenant.get<Timeline>(`/servers/${id}/timeline`);
    const stages = Object.fromEntries(
      timeline.stages.map(({ name, startedAt, endedAt }) => [
        name,
        (Date.parse(endedAt ?? '') - Date.parse(startedAt)) / 1_000,
      ]),
    );
    const listed = Object.entries(stages).map(([name, took]) => `${name} ${took.toFixed(2)}`);
    say(`${way} ${seconds.toFixed(1)} s: ${listed.join(', ')}`);
    return { seconds, stages };
  } finally {
    await banner.stop();
  }
}

/** Until the machine is wiped and free. */
async function release(site: Site, machineId: string): Promise<void> {
  const servers = await site.tenant.get<{ servers: { id: string; state: string }[] }>('/servers');
  for (const { id, state } of servers.servers) if (state === 'completed') await site.tenant.delete(`/servers/${id}`);
  await until('the machine to be free', DEPLOY_MS, async () => (await site.machine(machineId)).state === 'available');
}

function interval(values: readonly number[]): string {
  const [low, high] = medianInterval(values);
  return `[${low.toPrecision(3)}, ${high.toPrecision(3)}]`;
}

function sum(stages: Deploy['stages'], which: (name: string) => boolean): number {
  return Object.entries(stages).reduce((all, [name, seconds]) => all + (which(name) ? seconds : 0), 0);
}
