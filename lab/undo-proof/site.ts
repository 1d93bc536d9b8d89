import { setImmediate as nextTurn } from 'node:timers/promises';

import { silentLog } from '../../appliance/kernel/log.ts';
import type { Millis } from '../../appliance/kernel/clock.ts';
import type { Ids } from '../../appliance/kernel/ids.ts';
import { ManualClock } from '../../appliance/kernel/manual-clock.ts';
import { Secret } from '../../appliance/kernel/secret.ts';
import { enrolMachine } from '../../appliance/machines/enrol.ts';
import { recordInspection } from '../../appliance/machines/inspection.ts';
import type { Plane, RackMachine } from '../../appliance/machines/rack.fixture.ts';
import type { ServerSpec } from '../../appliance/providers/provider.ts';
import { admitServer } from '../../appliance/requests/admit.ts';
import { startAttempt } from '../../appliance/requests/attempts.ts';
import { attemptsOf } from '../../appliance/requests/request-records.ts';
import { releaseServer } from '../../appliance/requests/release.ts';
import type { ServerOrder } from '../../appliance/requests/server-order.ts';
import { describeSite } from '../../appliance/requests/site.fixture.ts';
import { openStore } from '../../appliance/store/open.ts';
import type { Store } from '../../appliance/store/store.ts';
import { Dice } from '../fuzz/dice.ts';
import { countedIds } from './ids.ts';
import { LocalRack } from './rack.ts';
import type { Rack } from './rack.ts';
import { BEGINNING, Template } from './template.ts';
import { WatchedStore } from '../../appliance/store/watched-store.fixture.ts';
import { startWorker } from './worker.ts';
import type { Worker, WorkerOptions } from './worker.ts';

export const sshKey = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJu0yI2Zb3bR3cLzqmAqUnnzNsVIV1sbHGf2HIfEvZ4a tenant';

/** Where a server is ordered from. */
export type Choice = Pick<ServerOrder, 'provider' | 'cluster'>;

const order: ServerOrder = {
  ...{ hostname: 'web', region: 'north', flavor: 'small', image: 'debian' },
  sshKeys: [sshKey],
};

/** A region with tenants `t1` and `t2` and this many machines, inspected and free. */
export function siteTemplate(machines: number): Promise<Template> {
  return Template.make(async (store, clock) => {
    const rack = new LocalRack(machines, () => never());
    const ids = countedIds(clock, new Dice('template'));
    await store.transaction((tx) => describeSite(tx, { ids, at: clock.now(), addresses: 20 }));
    const site = new Site(store, clock, ids, () => rack, []);
    const worker = site.begin({ onPoint: () => undefined, effects: () => (_, work) => work(), everyStepTwice: false });
    for (const [index, machine] of rack.machines.entries()) await enrol(store, worker, ids, clock, index + 1, machine);
    await worker.process.end();
  });
}

/** Opens a copy of the template, its machines switched off. */
export async function openSite(path: string, seed: string): Promise<Site> {
  return joinSite(path, { seed, life: 0, now: BEGINNING, rackOf: (site, size) => new LocalRack(size, (asked) => site.ask(asked)) }); // prettier-ignore
}

interface Joining {
  readonly seed: string;
  /** How many processes had this database before. */
  readonly life: number;
  readonly now: Millis;
  readonly rackOf: (site: Site, size: number) => Rack;
}

/** Opens a database that others may have had before, beside a rack that they have used. */
export async function joinSite(path: string, { seed, life, now, rackOf }: Joining): Promise<Site> {
  const clock = new ManualClock(now);
  const store = await openStore({ url: `sqlite:${path}`, clock, log: silentLog });
  const machines = await store.read.selectFrom('machines').select('id').orderBy('name').execute();
  const ids = countedIds(clock, new Dice('ids', seed, life), life * 1_000_000);
  return new Site(store, clock, ids, rackOf, machines.map(({ id }) => id)); // prettier-ignore
}

/** Workers on one store, and the rack that they all reach: the one thing that outlives them. */
export class Site {
  readonly store: WatchedStore;
  readonly clock: ManualClock;
  readonly ids: Ids;
  readonly rack: Rack;
  readonly machineIds: readonly string[];
  readonly workers: Worker[] = [];
  #begun = Promise.withResolvers<undefined>();
  #lives = 0;

  constructor(
    store: Store,
    clock: ManualClock,
    ids: Ids,
    rackOf: (site: Site, size: number) => Rack,
    machineIds: readonly string[],
  ) {
    this.store = new WatchedStore(store);
    this.clock = clock;
    this.ids = ids;
    this.rack = rackOf(this, machineIds.length);
    this.machineIds = machineIds;
  }

  /** One more daemon; without `owner` and `soleOwner` the only one. */
  begin(options: Pick<WorkerOptions, 'onPoint' | 'effects' | 'everyStepTwice'> & Partial<WorkerOptions>): Worker {
    const { store, clock, ids, rack } = this;
    this.#lives += 1;
    const owner = `life ${String(this.#lives)}`;
    const worker = startWorker({ ...{ store, clock, ids, rack, owner, soleOwner: true }, ...options });
    this.workers.push(worker);
    this.#begun.resolve(undefined);
    this.#begun = Promise.withResolvers<undefined>();
    return worker;
  }

  get living(): Worker[] {
    return this.workers.filter(({ process }) => !process.isDead());
  }

  kill(worker: Worker): void {
    worker.process.kill();
    worker.died.resolve(undefined);
  }

  order(worker: Worker, change: Partial<ServerOrder> = {}, tenantId = 't1'): Promise<string> {
    const { clock, ids, store } = this;
    const { process, provision, providers, dispatcher } = worker;
    const { events, sagas } = process;
    const deps = { store, events, sagas, provision, providers, dispatcher, clock, ids };
    return admitServer(deps, { ...order, ...change }, { tenantId, actor: 'key_1' });
  }

  /** Begins an attempt beside the request's first, as if that had taken too long; not where it is on its way back. */
  async hedge({ process, provision }: Worker, requestId: string): Promise<void> {
    const { clock, ids, store } = this;
    const { events, sagas } = process;
    await store.transaction(async (tx) => {
      const [first] = await attemptsOf(tx, requestId);
      const spec = (await sagas.hold(tx, first?.saga_id ?? '')) as ServerSpec | undefined;
      if (spec === undefined) return;
      const beside = { ...spec, attemptId: ids.next('att'), hedges: spec.attemptId };
      const deps = { events, sagas, provision, ids };
      await startAttempt(tx, deps, { number: 2, spec: beside, asleep: false, at: clock.now() });
    });
  }

  release(worker: Worker, requestId: string): Promise<void> {
    const { store, clock } = this;
    const { events, sagas } = worker.process;
    return releaseServer({ store, events, sagas, clock }, requestId, { actor: 'key_1' });
  }

  /** Asks a worker that lives; should it die meanwhile, another, as curl's retries do. */
  async ask<T>(question: (plane: Plane) => Promise<T>): Promise<T> {
    for (;;) {
      const [worker] = this.living;
      if (worker === undefined) {
        await this.#begun.promise;
        continue;
      }
      const answer = question(worker).then((value) => ({ value }));
      const answered = await Promise.race([answer, worker.died.promise]);
      if (answered !== undefined) return answered.value;
    }
  }

  /** Until sagas and machines have nothing to do, or nobody lives; time stands still. */
  async settle(): Promise<void> {
    for (;;) {
      const { ended } = this.store;
      for (const { process } of this.living) {
        await this.turn();
        await process.settle();
      }
      const { living } = this;
      if (living.length === 0) return;
      const deaths = living.map(({ died }) => died.promise);
      const worked = await Promise.race([this.rack.rest(), ...deaths]);
      const wrote = this.store.writing || this.store.ended !== ended;
      if (worked === false && !wrote && !living.some(({ dispatcher }) => dispatcher.busy)) return;
      await Promise.race([this.turn(), ...deaths]);
    }
  }

  /** One turn of the event loop, with the disk as quick as that: what comes next never depends on how long it took. */
  async turn(): Promise<void> {
    do await nextTurn();
    while (this.store.writing);
  }

  /** Whether no saga has anything left to do: all have ended, or are stuck. */
  async atRest(): Promise<boolean> {
    const due = this.store.read.selectFrom('sagas').select('id').where('wake_at', 'is not', null).limit(1);
    return (await due.executeTakeFirst()) === undefined;
  }

  /** To the time of whoever wakes next. */
  async nextWake(): Promise<void> {
    const next = this.clock.nextWake();
    if (next !== undefined) await this.clock.advance(next - this.clock.now());
  }

  /** Lets time pass, and stand still for whatever is written meanwhile. */
  async pass(span: Millis): Promise<void> {
    const end = this.clock.now() + span;
    for (;;) {
      await this.turn();
      const next = this.clock.nextWake() ?? Infinity;
      if (next >= end) break;
      await this.clock.advance(next - this.clock.now());
    }
    await this.clock.advance(end - this.clock.now());
    await this.turn();
  }

  async close(): Promise<void> {
    for (const worker of this.living) this.kill(worker);
    await this.store.close();
  }
}

async function enrol(
  store: Store,
  { process: { events } }: Worker,
  ids: Ids,
  clock: ManualClock,
  number: number,
  { mac, inspection }: RackMachine,
): Promise<void> {
  const at = clock.now();
  const bmc = { kind: 'ipmi', address: `192.0.2.${String(number)}`, port: 623, username: 'admin' } as const;
  const password = new Secret('secret');
  await store.transaction(async (tx) => {
    const id = await enrolMachine(
      tx,
      { events, ids, seal: () => 'sealed' },
      {
        ...{ name: `m${String(number)}`, rackId: 'rack1', nics: [{ mac, role: 'both' }] },
        bmc: { ...bmc, password, cipherSuite: 3 },
        diskRule: { minBytes: 1024 ** 3 },
      },
      { actor: 'key_1', at },
    );
    await recordInspection(tx, { events, ids }, { machineId: id, inspection, at });
    await tx.updateTable('machines').set({ state: 'available' }).where('id', '=', id).execute();
  });
}

function never(): Promise<never> {
  return new Promise(() => undefined);
}
