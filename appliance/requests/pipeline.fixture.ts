import { setImmediate as nextTurn } from 'node:timers/promises';

import type { Test } from 'tap';

import { parseMac } from '../../pxe/boot-client.ts';
import type { FairnessLimits } from '../../scheduler/fairness.ts';
import type { EventRecord } from '../events/event-log.ts';
import { createIds } from '../kernel/ids.ts';
import type { Ids } from '../kernel/ids.ts';
import type { ManualClock } from '../kernel/manual-clock.ts';
import { Secret } from '../kernel/secret.ts';
import { enrolMachine } from '../machines/enrol.ts';
import { recordInspection } from '../machines/inspection.ts';
import { RackMachine } from '../machines/rack.fixture.ts';
import type { Plane } from '../machines/rack.fixture.ts';
import type { SshTarget } from '../providers/ssh-probe.ts';
import { examine } from '../store/doctor.ts';
import type { MachineRow } from '../store/schema.ts';
import type { Store } from '../store/store.ts';
import type { AdmitDeps, Admission } from './admit.ts';
import { admitServer } from './admit.ts';
import type { Daemon, DaemonWorld } from './daemon.fixture.ts';
import { startDaemon } from './daemon.fixture.ts';
import { releaseServer } from './release.ts';
import { findRequest } from './request-records.ts';
import type { RequestState } from './request-states.ts';
import type { ServerOrder } from './server-order.ts';
import { describeSite } from './site.fixture.ts';

export const sshKey = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJu0yI2Zb3bR3cLzqmAqUnnzNsVIV1sbHGf2HIfEvZ4a tenant';

export const serverOrder: ServerOrder = {
  hostname: 'web1',
  region: 'north',
  flavor: 'small',
  image: 'debian',
  sshKeys: [sshKey],
};

export interface PipelineOptions {
  readonly machines?: number;
  /** How many addresses servers may have. */
  readonly addresses?: number;
  readonly inspected?: boolean;
  readonly fairness?: Partial<FairnessLimits>;
  readonly watchdog?: boolean;
}

/**
 * The whole way from an order to a server, on the rack's doubles (`machines/rack.fixture.ts`) and a manual clock: everything
 * between them is what runs in production.
 */
export class Pipeline {
  readonly store: Store;
  readonly clock: ManualClock;
  readonly ids: Ids;
  readonly rack: RackMachine[] = [];
  readonly machineIds: string[] = [];
  /** Asked before each probe by SSH. */
  atProbe: (target: SshTarget) => SshTarget | Promise<SshTarget> = (target) => target;
  /** Told at each write and effect of the daemon that runs. */
  onPoint: (what: string) => void = () => undefined;
  readonly #world: DaemonWorld;
  #daemon: Daemon;

  private constructor(store: Store, clock: ManualClock, { fairness, watchdog = false }: PipelineOptions) {
    this.store = store;
    this.clock = clock;
    this.ids = createIds(clock);
    this.#world = {
      ...{ store, clock, ids: this.ids, rack: this.rack },
      fairness: { perTenant: 5, inAll: 1_000, ...fairness },
      watchdog,
      atProbe: (target) => this.atProbe(target),
      onPoint: (what) => this.onPoint(what),
    };
    this.#daemon = startDaemon(this.#world);
  }

  /** With tenants `t1` and `t2`, and machines that were inspected; at the test's end the doctor must find nothing. */
  static async open(t: Test, store: Store, clock: ManualClock, options: PipelineOptions = {}): Promise<Pipeline> {
    const pipeline = new Pipeline(store, clock, options);
    t.teardown(() => pipeline.kill());
    await pipeline.#describe(options);
    return pipeline;
  }

  get daemon(): Daemon {
    return this.#daemon;
  }

  /** What the daemon admits with. */
  get admitDeps(): AdmitDeps {
    const { store, clock, ids } = this;
    const { process, provision, providers, dispatcher } = this.#daemon;
    const { events, sagas } = process;
    return { store, events, sagas, provision, providers, dispatcher, clock, ids };
  }

  order(change: Partial<ServerOrder> = {}, admission: Partial<Admission> = {}): Promise<string> {
    const order = { ...serverOrder, ...change };
    return admitServer(this.admitDeps, order, { tenantId: 't1', actor: 'key_1', ...admission });
  }

  release(requestId: string): Promise<void> {
    const { store, clock } = this;
    const { events, sagas } = this.#daemon.process;
    return releaseServer({ store, events, sagas, clock }, requestId, { actor: 'key_1' });
  }

  /** What the daemon does every five seconds about requests that are slow; a dead one does nothing. */
  async lookForSlow(): Promise<void> {
    const { hedging, died } = this.#daemon;
    await Promise.race([hedging.look(), died.promise]);
    await this.settle();
  }

  kill(): void {
    this.#daemon.process.kill();
    this.#daemon.died.resolve(undefined);
  }

  /** Kills the daemon behind the nth of its writes and effects while `counts` says so; before one is behind the one before it. */
  killAt(nth: number, counts = () => true): void {
    let points = 0;
    this.onPoint = (what) => {
      if (!counts() || (what !== 'written' && what !== 'effected')) return;
      points += 1;
      if (points === nth) this.kill();
    };
  }

  /** Starts it again where it was killed, and has it live from here on; false where it had not come that far. */
  revive(): boolean {
    this.onPoint = () => undefined;
    const died = this.#daemon.process.isDead();
    if (died) this.restart();
    return died;
  }

  /** A new daemon on the same database and rack. */
  restart(): void {
    this.kill();
    const dead = this.#daemon;
    this.#daemon = startDaemon(this.#world);
    dead.replaced.resolve(undefined);
  }

  /** Until sagas, dispatcher and machines have nothing to do; time stands still. */
  async settle(): Promise<void> {
    const { process, dispatcher, died } = this.#daemon;
    for (;;) {
      await process.settle();
      const works = this.rack.flatMap(({ work }) => work ?? []);
      const isIdle = works.length === 0 && !dispatcher.busy && !(await this.#isOrdered());
      if (isIdle || process.isDead()) return;
      await Promise.race([Promise.all([...works, nextTurn()]), died.promise]);
    }
  }

  /** Whether an order is on its way to a machine that listens: it may have been taken, and the answer not have come. */
  async #isOrdered(): Promise<boolean> {
    const rack = this.machineIds.map((id, index) => [id, this.rack[index]] as const);
    const listening = new Map(rack.filter(([, machine]) => machine?.isParked === true));
    if (listening.size === 0) return false;
    const sessions = await this.store.read
      .selectFrom('boot_sessions')
      .select(['machine_id', 'generation'])
      .where('machine_id', 'in', [...listening.keys()])
      .where('state', 'in', ['ordered', 'taken'])
      .where('ended_at', 'is', null)
      .execute();
    return sessions.some(({ machine_id, generation }) => generation > (listening.get(machine_id)?.generation ?? 0));
  }

  /** Lets time pass until the condition holds. */
  async until(what: string, condition: () => Promise<boolean>): Promise<void> {
    for (let turns = 0; turns < 3_000; turns += 1) {
      const daemon = this.#daemon;
      await this.settle();
      // A daemon that took over meanwhile has not settled yet.
      if (daemon !== this.#daemon) continue;
      if (this.#daemon.process.isDead() || (await condition())) return;
      // What others are writing is on the disk before time goes on: else a slow one lets hours pass.
      await this.store.transaction(() => Promise.resolve());
      if (await this.#isOrdered()) continue;
      const next = this.clock.nextWake();
      if (next !== undefined) await this.clock.advance(next - this.clock.now());
    }
    throw new Error(`this did not come: ${what}`);
  }

  untilRequest(requestId: string, ...states: RequestState[]): Promise<void> {
    return this.until(`request is ${states.join()}`, async () =>
      states.includes((await findRequest(this.store.read, requestId)).state),
    );
  }

  untilMachine(state: MachineRow['state'], index = 0): Promise<void> {
    return this.until(`machine is ${state}`, async () => (await this.machine(index)).state === state);
  }

  machine(index = 0): Promise<MachineRow> {
    const id = this.machineIds[index] ?? '';
    return this.store.read.selectFrom('machines').selectAll().where('id', '=', id).executeTakeFirstOrThrow();
  }

  /** All events so far, oldest first. */
  async events(): Promise<EventRecord[]> {
    await this.settle();
    return this.#daemon.process.events.read(0, 10_000);
  }

  async isHealthy(t: Test): Promise<void> {
    await this.settle();
    t.same(await examine(this.store.read), [], 'the doctor finds nothing');
  }

  async #ask<T>(question: (plane: Plane) => Promise<T>): Promise<T> {
    for (;;) {
      const daemon = this.#daemon;
      const answer = question(daemon).then((value) => ({ value }));
      const answered = await Promise.race([answer, daemon.died.promise]);
      if (answered !== undefined) return answered.value;
      await daemon.replaced.promise;
    }
  }

  async #describe({ machines = 1, addresses = 20, inspected = true }: PipelineOptions): Promise<void> {
    const { store, clock, ids } = this;
    await store.transaction((tx) => describeSite(tx, { ids, at: clock.now(), addresses }));
    for (let number = 1; number <= machines; number += 1) await this.addMachine(`m${String(number)}`, { inspected });
  }

  /** One more machine, of which nobody has been told; its BMC is 192.0.2.N, it being the Nth of the rack. */
  addStranger(): RackMachine {
    const mac = parseMac(`52:54:00:77:00:${(this.rack.length + 1).toString(16).padStart(2, '0')}`);
    if (mac === undefined) throw new Error('no MAC');
    const machine = new RackMachine(mac, (question) => this.#ask(question));
    this.rack.push(machine);
    return machine;
  }

  /** Enrols one more machine; an inspected one is available. */
  async addMachine(name: string, { inspected = true } = {}): Promise<RackMachine> {
    const machine = this.addStranger();
    const { mac } = machine;
    const number = this.rack.length;
    const { clock, ids } = this;
    const { events } = this.#daemon.process;
    const at = clock.now();
    const bmc = { kind: 'ipmi', address: `192.0.2.${String(number)}`, port: 623, username: 'admin' } as const;
    await this.store.transaction(async (tx) => {
      const id = await enrolMachine(
        tx,
        { events, ids, seal: () => 'sealed' },
        {
          name,
          rackId: 'rack1',
          bmc: { ...bmc, password: new Secret('secret'), cipherSuite: 3 },
          nics: [{ mac, role: 'both' }],
          diskRule: { minBytes: 1024 ** 3 },
        },
        { actor: 'key_1', at },
      );
      tx.afterCommit(() => this.machineIds.push(id));
      if (!inspected) return;
      const { inspection } = machine;
      await recordInspection(tx, { events, ids }, { machineId: id, inspection, at });
      await tx.updateTable('machines').set({ state: 'available' }).where('id', '=', id).execute();
    });
    return machine;
  }
}
