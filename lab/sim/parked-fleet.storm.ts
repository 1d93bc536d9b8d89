import { existsSync, mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';

import { until } from '../process/until.ts';
import { tally } from './event-follower.ts';
import type { SimulatedSite } from './site.ts';
import { inTurns, openSimulatedSite } from './site.ts';

const MACHINES = 200;
/** Any machine: no order then fails for want of a fitting one. */
const CORES = 4;
const PHASE_MS = 180_000;

test('200 machines wait through a kill of the daemon, and each gets the order that was made for it', async (t) => {
  const directory = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'rs-parked-'));
  const began = performance.now();
  const say = (line: string) => console.error(`${((performance.now() - began) / 1000).toFixed(1)} s  ${line}`);
  const site = await openSimulatedSite({ name: 'parked', directory, machines: MACHINES, seed: 'parked', speed: 20 });
  try {
    const ids = await site.enrol(site.machines, PHASE_MS);
    say(`${ids.length} machines are inspected`);
    await inTurns(ids, 8, (id) => site.operator.post(`/machines/${id}/warm`, {}));
    await untilAll(site, ids, 'ready');
    say('all are ready');
    const waiting = await parkedOf(site, ids);
    t.ok(
      waiting.every(({ ramdisk }) => /^[0-9a-f]{16}$/.test(ramdisk)),
      'each has told which ramdisk it waits in',
    );

    await site.daemon.kill();
    const restarted = Date.now();
    await site.daemon.start();
    let heard: Parked[] = [];
    await until('all to ask again', PHASE_MS, async () => {
      heard = await parkedOf(site, ids);
      return heard.every(({ seenAt }) => Date.parse(seenAt) >= restarted);
    });
    t.strictSame(
      heard.map(({ since }) => since),
      waiting.map(({ since }) => since),
      'they wait in the same boots as before',
    );
    const seconds = tally(heard.map(({ seenAt }) => seenAt.slice(0, 19)));
    const busiest = Math.max(...seconds.match(/(?<=: )\d+/g)!.map(Number));
    say(`heard again: ${seconds}`);
    t.ok(busiest < MACHINES / 2, `they do not come back together: ${busiest} in one second`);

    await site.simulation.forget();
    const orders = await inTurns(ids, 8, (_, index) => site.order(`web-${index}`, CORES));
    const states = () => orders.map(({ id }) => site.follower.requests.get(id) ?? '');
    await site.follower.until(
      () => `${MACHINES} servers; ${tally(states())}`,
      PHASE_MS,
      () => states().every((state) => state === 'completed'),
    );
    const { answers, counts } = await site.simulation.statistics();
    t.equal(counts['order taken'], MACHINES, 'each order was taken once');
    t.equal(answers.claim, undefined, 'nobody claimed a boot');
    t.equal(answers.dhcp, undefined, 'nobody asked for an address');
    t.equal(answers.tftp, undefined);
    say(await tookAfter(site));
    t.match(await site.doctor(), /invariants hold/);
  } catch (error) {
    t.fail(error instanceof Error ? error.message : String(error));
  }
  await site.close();
  if (t.passing()) await rm(directory, { recursive: true });
  else console.error(`evidence is kept in ${directory}: appliance/daemon.log, appliance/state, simulation.log`);
});

interface Parked {
  readonly since: string;
  readonly seenAt: string;
  readonly ramdisk: string;
}

function untilAll({ follower }: SimulatedSite, ids: readonly string[], state: string): Promise<void> {
  const states = () => ids.map((id) => follower.machines.get(id) ?? '');
  return follower.until(
    () => `all to be ${state}; ${tally(states())}`,
    PHASE_MS,
    () => states().every((one) => one === state),
  );
}

async function parkedOf({ operator }: SimulatedSite, ids: readonly string[]): Promise<Parked[]> {
  const { machines } = await operator.get<{ machines: { id: string; parked: Parked | null }[] }>('/machines');
  return ids.map((id) => {
    const parked = machines.find((machine) => machine.id === id)?.parked;
    if (!parked) throw new Error(`machine ${id} does not wait`);
    return parked;
  });
}

/** From when the order was written to when the ramdisk was sent it, by the log of events. */
async function tookAfter({ operator }: SimulatedSite): Promise<string> {
  type Told = { type: string; at: string; data: Record<string, unknown>; position: number };
  const ordered = new Map<unknown, number>();
  const taken: number[] = [];
  for (let after = 0, more = true; more;) {
    const { events, position } = await operator.get<{ events: Told[]; position: number }>(
      `/events?after=${after}&limit=1000`,
    );
    for (const { type, at, data } of events) {
      if (type === 'boot.ordered') ordered.set(data['sessionId'], Date.parse(at));
      const since = type === 'boot.claimed' ? ordered.get(data['sessionId']) : undefined;
      if (since !== undefined) taken.push(Date.parse(at) - since);
    }
    more = events.length === 1000;
    after = position;
  }
  taken.sort((a, b) => a - b);
  const at = (share: number) => taken[Math.floor(share * (taken.length - 1))];
  return `from the order to the ramdisk, ms: p50 ${at(0.5)}, p99 ${at(0.99)}, ${taken.length} orders`;
}
