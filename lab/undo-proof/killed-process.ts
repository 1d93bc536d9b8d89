/**
 * One life of a daemon, in a process of its own: started by `sigkill.ts`, told by message which saga it works on and at which
 * point to kill itself, by SIGKILL. What outlives it is the database and the rack, which stands in the process that started it.
 */
import { flushCompileCache } from 'node:module';

import type { Millis } from '../../appliance/kernel/clock.ts';
import { cases } from './cases.ts';
import type { LinkMessage } from './remote-rack.ts';
import { RemoteRack } from './remote-rack.ts';
import { joinSite } from './site.ts';
import type { Site } from './site.ts';
import { Trial } from './trial.ts';
import type { Moment, Verdict } from './trial.ts';
import type { Worker } from './worker.ts';

export interface Life {
  readonly saga: string;
  readonly provider: string;
  readonly path: string;
  readonly scenario: string;
  /** How many processes worked on it before. */
  readonly life: number;
  readonly now: Millis;
  /** When it dies; undefined: it sees the end. */
  readonly killAt: Moment | undefined;
  readonly thenCancel: boolean;
}

export type FromLife = { readonly now: Millis } | { readonly verdict: Verdict } | LinkMessage;

/** The rack of the life that is led, once there is a worker whom machines can ask. */
let living = Promise.withResolvers<RemoteRack>();
process.on('message', (message: { life: Life } | LinkMessage) => {
  if ('life' in message) void live(message.life);
  else void living.promise.then((rack) => rack.hear(message));
});
process.on('disconnect', () => process.exit(1));
// One that is killed has no time for it.
flushCompileCache();

async function live({ saga, provider, path, scenario, life, now, killAt, thenCancel }: Life): Promise<void> {
  const subject = cases.find((one) => one.saga === saga && one.provider === provider);
  if (subject === undefined) throw new Error(`no ${saga} on ${provider}`);
  const racks: RemoteRack[] = [];
  const rackOf = (site: Site) => {
    const rack = new RemoteRack(say, () => workerOf(site));
    racks.push(rack);
    return rack;
  };
  const site = await joinSite(path, { ...{ seed: scenario, life, now }, rackOf });
  const tick = site.nextWake.bind(site);
  site.nextWake = async () => {
    await tick();
    say({ now: site.clock.now() });
  };
  const trial = new Trial(subject, site, { name: scenario, thenCancel }, dieAt(killAt));
  for (const rack of racks) living.resolve(rack);
  const verdict = await trial.run();
  await site.close();
  living = Promise.withResolvers();
  say({ verdict });
}

function workerOf({ workers }: Site): Worker {
  const worker = workers.at(-1);
  if (worker === undefined) throw new Error('no worker has begun');
  return worker;
}

function dieAt(moment: Moment | undefined): (what: string) => void {
  let left = moment?.nth ?? Infinity;
  return (what) => {
    if (moment?.what === undefined || moment.what === what) left -= 1;
    if (left === 0) die();
  };
}

/** Nothing of this process runs after it. */
function die(): never {
  process.kill(process.pid, 'SIGKILL');
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  throw new Error('killed, and alive');
}

function say(message: FromLife): void {
  process.send?.(message);
}
