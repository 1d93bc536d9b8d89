import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

import { draw } from '../../appliance/kernel/seeded.ts';
import { test } from 'tap';
import type { Test } from 'tap';

import { tally } from './event-follower.ts';
import type { SimulatedSite } from './site.ts';
import { inTurns, openSimulatedSite } from './site.ts';
import type { Server } from '../site/server.ts';

const MACHINES = 200;
const KILLS = 10;
/** Between a start of the daemon and the next kill, ms. */
const LIFE = { least: 1_000, most: 8_000 };
/** In the field 2.3 % of installs meet a disk that fails. */
const faults = { diskWrite: 0.023 };
/** Any machine: no order then fails for want of a fitting one. */
const CORES = 4;
// A boot that a kill has broken is given up after this, not after five minutes. No less: firmware needs 16 s to see that its TFTP
// server is gone, and as long again when the next kill breaks its next transfer.
const settings = ['deadlines: { stage: 150000 }'];
const PHASE_MS = 180_000;

test('200 deploys end completed or undone though the daemon is killed 10 times meanwhile', async (t) => {
  const seed = process.env['RACKSTART_SEED'] ?? randomBytes(4).toString('hex');
  // In memory, where there is such a place: SIGKILL takes nothing back that the kernel was given, and the disk is not what is tried.
  const directory = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'rs-killed-'));
  const began = performance.now();
  const say = (line: string) => console.error(`${((performance.now() - began) / 1000).toFixed(1)} s  ${line}`);
  say(`RACKSTART_SEED=${seed} has the same machines, delays, faults and kills again`);
  const site = await openSimulatedSite({
    ...{ name: 'killed', directory, machines: MACHINES, seed, speed: 20, faults, settings },
  });
  try {
    const ids = await site.enrol(site.machines, PHASE_MS);
    say(`${ids.length} machines are inspected`);
    await deployUnderFire(t, site, seed, say);
    await releaseAll(t, site, ids, say);
  } catch (error) {
    t.fail(error instanceof Error ? error.message : String(error));
  }
  say(JSON.stringify((await site.simulation.statistics()).counts));
  await site.close();
  if (t.passing()) await rm(directory, { recursive: true });
  else console.error(`evidence is kept in ${directory}: appliance/daemon.log, appliance/state, simulation.log`);
});

async function deployUnderFire(t: Test, site: SimulatedSite, seed: string, say: (line: string) => void): Promise<void> {
  const { follower, operator } = site;
  const states = () => [...follower.requests.values()];
  const over = new AbortController();
  const killing = killAgainAndAgain(site, seed, over.signal, say);
  const orders = await inTurns(site.machines, 8, (_, index) => site.order(`web-${index}`, CORES)).catch(
    (error: unknown) => {
      over.abort();
      throw error;
    },
  );
  const hit = (await killing).filter((underWay) => underWay > 0).length;
  t.ok(hit >= KILLS / 2, `${hit} of ${KILLS} kills met deploys under way`);
  await follower.until(
    () => `the end of ${states().length} deploys; ${tally(states())}`,
    PHASE_MS,
    () => states().length >= orders.length && !states().some(isUnderWay),
  );
  const servers = await inTurns([...follower.requests.keys()], 8, (id) => operator.get<Server>(`/servers/${id}`));
  const completed = servers.filter(({ state }) => state === 'completed');
  const undone = servers.filter(({ state }) => state === 'rolled-back');
  t.equal(servers.length, MACHINES, 'an order whose answer was cut off was not taken twice');
  say(`${tally(states())}; undone for: ${tally(undone.map(({ failure }) => failure?.code ?? 'no reason'))}`);
  t.ok(completed.length >= MACHINES * 0.9, `${completed.length} of ${servers.length} are completed`);
  t.strictSame(
    undone.map(({ failure }) => failure).filter((failure) => !reasons.includes(failure?.code ?? '')),
    [],
    'what was undone met a disk that fails, or was broken by a kill beyond repair',
  );

  const greetings = await inTurns(completed, 4, async (server) => (await site.ssh(server, 'hostname')).trim());
  t.strictSame(
    greetings,
    completed.map(({ hostname }) => hostname),
    'every completed server answers SSH by its host key and the tenant’s own',
  );
  const busy = () => [...follower.machines.values()].filter((state) => !['deployed', ...atRest].includes(state));
  await follower.until(
    () => `machines at rest; ${tally(busy())}`,
    PHASE_MS,
    () => busy().length === 0,
  );
  const held = [...follower.machines.values()].filter((state) => state === 'deployed');
  t.equal(held.length, completed.length, 'what was undone holds no machine');
  t.match(await site.doctor(), /invariants hold/);
}

const reasons = ['disk.failed', 'boot.stage-late'];
const isUnderWay = (state: string) => !['completed', 'rolled-back'].includes(state);
const atRest = ['available', 'quarantined'];

/** Kills the daemon and starts it again on the same state, at moments that follow from the seed. How many deploys each met. */
async function killAgainAndAgain(
  { daemon, operator }: SimulatedSite,
  seed: string,
  over: AbortSignal,
  say: (line: string) => void,
): Promise<number[]> {
  const met: number[] = [];
  while (met.length < KILLS) {
    const life = LIFE.least + (LIFE.most - LIFE.least) * draw(seed, 'kill', met.length);
    await pause(life);
    if (over.aborted) break;
    const { servers } = await operator.get<{ servers: Server[] }>('/servers?limit=1000');
    met.push(servers.filter(({ state }) => isUnderWay(state)).length);
    await daemon.kill();
    await daemon.start();
    say(`killed after ${life.toFixed(0)} ms, with ${met.at(-1)} deploys under way: ${met.length} of ${KILLS}`);
  }
  return met;
}

async function releaseAll(
  t: Test,
  site: SimulatedSite,
  machineIds: readonly string[],
  say: (line: string) => void,
): Promise<void> {
  const { follower, operator, simulation } = site;
  const completed = [...follower.requests].filter(([, state]) => state === 'completed').map(([id]) => id);
  await inTurns(completed, 8, (id) => operator.delete(`/servers/${id}`));
  const states = () => machineIds.map((id) => follower.machines.get(id)!);
  await follower.until(
    () => `the release of ${completed.length} servers; ${tally(states())}`,
    PHASE_MS,
    () =>
      states().every((state) => atRest.includes(state)) &&
      completed.every((id) => follower.requests.get(id) === 'deprovisioned'),
  );
  say(`released: ${tally(states())}`);
  const quarantined = machineIds.filter((id) => follower.machines.get(id) === 'quarantined');
  for (const id of quarantined) {
    const { quarantineReason } = await operator.get<{ quarantineReason: string | null }>(`/machines/${id}`);
    t.ok(quarantineReason, `${id} is quarantined: ${quarantineReason ?? 'and nobody knows why'}`);
  }
  // Of 200 installs 4.6 meet a disk that fails, which sets its machine aside: more than 16 of them do once in 100,000 runs.
  t.ok(quarantined.length <= MACHINES * 0.08, `${quarantined.length} machines are quarantined`);
  t.ok((await simulation.statistics()).on <= quarantined.length, 'what is free is off');
  t.match(await site.doctor(), /invariants hold/);
}
