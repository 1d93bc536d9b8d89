import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';

import { until } from '../process/until.ts';
import { showInReport } from '../test/report-file.ts';
import { tally } from './event-follower.ts';
import type { FaultStage } from './faults.ts';
import { hardwareModels } from './models.ts';
import type { SimulatedSite } from './site.ts';
import { inTurns, openSimulatedSite } from './site.ts';

/** Where a machine dies, and the stage that is late then. */
const deaths: readonly (readonly [FaultStage, string])[] = [
  ['post', 'dhcp'],
  ['loader', 'loader'],
  ['script', 'loader'],
  ['ramdisk', 'ramdisk'],
  ['claim', 'ramdisk'],
  ['disk', 'disk'],
  ['image', 'image'],
  ['grow', 'grow'],
  ['inject', 'inject'],
  // After the handoff: it is started from its disk, where it is in good health.
  ['system', 'boot'],
];
/** Machines of the same model that are deployed before: a deadline is made of five boots. */
const MEASURED = 6;
/**
 * Dies first, of a model that nobody has measured: that POST may take as long as any stage may. Who is noticed before it was missed by
 * what was learned.
 */
const UNKNOWN = 'Unheard 1';

const settings = ['deadlines: { stage: 300000, stageFloor: 2500, stageFactor: 4 }', 'retry: { attempts: 1 }'];
const PHASE_MS = 180_000;

const ENDED: ReadonlySet<string> = new Set(['completed', 'rolling-back', 'rolled-back']);

/** What operators are told of a boot that is given up, and of a new system that is given another start. */
const MISSED: ReadonlySet<string> = new Set(['late', 'started from disk']);

interface Entry {
  readonly source: string;
  readonly name: string;
  readonly detail: Readonly<Record<string, unknown>>;
}

interface StageWatch {
  readonly model: string | null;
  readonly stage: string;
  readonly boots: number;
  readonly allowedSeconds: number;
  readonly basis: string;
  readonly late: number;
}

test('a machine that dies is missed by what the stage takes on its model, in every stage', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'rs-dead-'));
  const site = await openSimulatedSite({
    ...{ name: 'dead', directory, machines: 1 + deaths.length + MEASURED, speed: 20, settings },
    // Each has its own number of cores and least memory of those with fewer: an order finds this machine and no other.
    hardware: (number) => ({
      ...hardwareModels[0]!,
      ...(number === 1 ? { name: UNKNOWN } : {}),
      ...{ cores: 100 + number, memoryMib: (200 - number) * 1024, diskGib: 64 },
    }),
    more: (number) => {
      if (number === 1) return { mishap: 'dies-in-post' };
      const death = deaths[number - 2];
      return death === undefined ? {} : { mishap: `dies-in-${death[0]}` };
    },
  });
  try {
    await play(site);
  } catch (error) {
    t.fail(error instanceof Error ? error.message : String(error));
  }
  await site.close();
  if (t.passing()) rmSync(directory, { recursive: true });
  else console.error(`evidence is kept in ${directory}: appliance/daemon.log, appliance/state, simulation.log`);

  async function play({ machines, follower, operator }: SimulatedSite): Promise<void> {
    const watches = async () => (await operator.get<{ stages: StageWatch[] }>('/performance')).stages;
    const stateOf = ({ id }: { id: string }) => follower.requests.get(id) ?? '';
    await site.enrol(machines, PHASE_MS);
    const [unknown, doomed] = [machines[0]!, machines.slice(1, 1 + deaths.length)];
    const healthy = await inTurns(machines.slice(1 + deaths.length), 8, (machine) =>
      site.order(machine.name, machine.hardware.cores),
    );
    await follower.until(
      () => `${MEASURED} deploys; ${tally(healthy.map(stateOf))}`,
      PHASE_MS,
      () => healthy.every((one) => stateOf(one) === 'completed'),
    );
    const stages = new Set(deaths.map(([, stage]) => stage));
    const measured = await until('every stage to be measured', PHASE_MS, async () => {
      const known = (await watches()).filter(({ model, boots }) => model !== UNKNOWN && boots >= MEASURED);
      return [...stages].every((stage) => known.some((watch) => watch.stage === stage)) && known;
    });

    const first = await site.order(unknown.name, unknown.hardware.cores);
    const dead = await inTurns(doomed, 8, ({ name, hardware }) => site.order(name, hardware.cores));
    await follower.until(
      () => `${dead.length} dead machines to be missed; ${tally(dead.map(stateOf))}`,
      PHASE_MS,
      () => dead.every((one) => ENDED.has(stateOf(one))),
    );
    t.notOk(ENDED.has(stateOf(first)), 'all are missed before the one nothing was known of');

    const rows: string[][] = [];
    for (const [index, [where, stage]] of deaths.entries()) {
      const { entries } = await operator.get<{ entries: Entry[] }>(`/servers/${dead[index]!.id}/timeline`);
      const [missed, ...more] = entries.filter(({ source, name }) => source === 'alert' && MISSED.has(name));
      const watch = measured.find((one) => one.stage === stage);
      const boot = {
        stage,
        allowedMs: Number(watch?.allowedSeconds) * 1000,
        samples: watch?.boots,
        basis: watch?.basis,
      };
      // What is told of a system that is started from its disk is what it may take from there on.
      const late = missed?.name === 'late' ? missed.detail : { ...missed?.detail, ...boot };
      t.match(late, { stage }, `who dies in ${where} is missed in ${stage}`);
      t.same(more, [], 'once');
      const { allowedMs, silentForMs, samples, basis } = late;
      t.ok(Number(samples) >= MEASURED && ['measured', 'floor'].includes(String(basis)), `${where}: its model decided`);
      t.ok(Number(silentForMs) >= Number(allowedMs), `${where}: nobody is missed too early`);
      rows.push([where, stage, `${inSeconds(allowedMs)} (${String(basis)})`, inSeconds(silentForMs)]);
    }
    t.equal(stateOf(dead.at(-1)!), 'completed', 'a system that died after the handoff is started from its disk');
    const told = (await watches()).filter(({ late }) => late > 0);
    t.same(
      Object.fromEntries(told.map(({ stage, late }) => [stage, late])),
      Object.fromEntries([...stages].map((stage) => [stage, deaths.filter(([, each]) => each === stage).length])),
      'the report has them, by stage',
    );
    showInReport(table([['dies in', 'late stage', 'deadline', 'noticed after'], ...rows]));
  }
});

function inSeconds(milliseconds: unknown): string {
  return `${(Number(milliseconds) / 1000).toFixed(1)} s`;
}

function table(rows: readonly (readonly string[])[]): string {
  return rows
    .map(
      (row) =>
        `  ${row
          .map((cell) => cell.padEnd(18))
          .join('')
          .trimEnd()}\n`,
    )
    .join('');
}
