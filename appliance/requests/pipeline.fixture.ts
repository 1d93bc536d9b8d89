import { createSecretKey } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';

import type { Test } from 'tap';

import { parseMac } from '../../pxe/boot-client.ts';
import type { FairnessLimits } from '../../scheduler/fairness.ts';
import { loadSystemFiles } from '../../templates/system-files.ts';
import type { EventRecord } from '../events/event-log.ts';
import { MINUTE, SECOND } from '../kernel/clock.ts';
import { Guards } from '../kernel/guard.ts';
import { createIds } from '../kernel/ids.ts';
import type { Ids } from '../kernel/ids.ts';
import { silentLog } from '../kernel/log.ts';
import type { ManualClock } from '../kernel/manual-clock.ts';
import { Secret } from '../kernel/secret.ts';
import { StoreAgentDesk } from '../machines/agent-desk.ts';
import { BmcFleet } from '../machines/bmc-fleet.ts';
import { StoreBootDirector } from '../machines/boot-director.ts';
import { BootDeadlines } from '../machines/boot-deadlines.ts';
import type { BootDriveDeps } from '../machines/boot-drive.ts';
import { enrolMachine } from '../machines/enrol.ts';
import { DiscoveryDirector } from '../machines/enrolment/discovery-director.ts';
import { Discovery } from '../machines/enrolment/discovery.ts';
import { recordInspection } from '../machines/inspection.ts';
import { MachineBell } from '../machines/machine-bell.ts';
import { MachineCare } from '../machines/machine-care.ts';
import { RackMachine, probeRack } from '../machines/rack.fixture.ts';
import type { Plane } from '../machines/rack.fixture.ts';
import { ReadyPool } from '../pool/ready-pool.ts';
import { bareMetal } from '../providers/bare-metal/bare-metal.ts';
import { manual } from '../providers/manual/manual.ts';
import { Providers } from '../providers/providers.ts';
import { usualDelays } from '../providers/simulation/simulated-cluster.ts';
import type { SimulatedClusterSettings } from '../providers/simulation/simulated-cluster.ts';
import { simulation } from '../providers/simulation/simulation.ts';
import type { SshTarget } from '../providers/ssh-probe.ts';
import { exponentialRetry } from '../saga/retry.ts';
import { bindSaga } from '../saga/saga.ts';
import { TestProcess } from '../saga/test-process.ts';
import { examine } from '../store/doctor.ts';
import type { MachineRow } from '../store/schema.ts';
import type { Store } from '../store/store.ts';
import type { AdmitDeps, Admission } from './admit.ts';
import { admitServer } from './admit.ts';
import { Dispatcher } from './dispatcher.ts';
import { Hedging } from './hedging.ts';
import type { ProvisionSaga } from './provision.ts';
import { ProvisionListener, provisionSaga } from './provision.ts';
import { releaseServer } from './release.ts';
import { findRequest } from './request-records.ts';
import type { RequestState } from './request-states.ts';
import type { ServerOrder } from './server-order.ts';
import { describeSite } from './site.fixture.ts';

export const STAGE_DEADLINE = 10 * MINUTE;
export const STAGE_FLOOR = 20 * SECOND;
export const TAKE_DEADLINE = 10 * SECOND;
export const VERIFY_DEADLINE = MINUTE;
export const MOST_STRANGERS = 4;
export const BOOT_WINDOW = 15 * MINUTE;
export const sshKey = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJu0yI2Zb3bR3cLzqmAqUnnzNsVIV1sbHGf2HIfEvZ4a tenant';

export const serverOrder: ServerOrder = {
  hostname: 'web1',
  region: 'north',
  flavor: 'small',
  image: 'debian',
  sshKeys: [sshKey],
};

const atOnce = { least: 0, usual: 0, most: 0 };

/** Beside the rack: where an order of provider `simulation` goes. What runs there takes its time to start, and no call does. */
const simulatedCluster: SimulatedClusterSettings = {
  ...{ name: 'sim1', shape: 'openstack', region: 'north', seed: '7', failureRates: {} },
  delays: { ...usualDelays, create: atOnce, find: atOnce, delete: atOnce, probe: atOnce },
};

export interface PipelineOptions {
  readonly machines?: number;
  /** How many addresses servers may have. */
  readonly addresses?: number;
  readonly inspected?: boolean;
  readonly fairness?: Partial<FairnessLimits>;
}

/** One daemon: the real runner, boot director, agent desk and machine care over one store; it can be killed. */
interface Daemon extends Plane {
  readonly process: TestProcess;
  readonly care: MachineCare;
  readonly bell: MachineBell;
  readonly pool: ReadyPool;
  readonly provision: ProvisionSaga;
  readonly providers: Providers;
  readonly dispatcher: Dispatcher;
  /** Run by nobody: `look` is asked. */
  readonly discovery: Discovery;
  readonly hedging: Hedging;
  /** Of machines that are enrolled; a stranger is none of its. */
  readonly known: StoreBootDirector;
  /** Resolves when the next one has started. */
  readonly replaced: PromiseWithResolvers<undefined>;
  readonly died: PromiseWithResolvers<undefined>;
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
  readonly #fairness: FairnessLimits;
  #daemon: Daemon;

  private constructor(store: Store, clock: ManualClock, fairness: Partial<FairnessLimits> = {}) {
    this.store = store;
    this.clock = clock;
    this.ids = createIds(clock);
    this.#fairness = { perTenant: 5, inAll: 1_000, ...fairness };
    this.#daemon = this.#startDaemon();
  }

  /** With tenants `t1` and `t2`, and machines that were inspected; at the test's end the doctor must find nothing. */
  static async open(t: Test, store: Store, clock: ManualClock, options: PipelineOptions = {}): Promise<Pipeline> {
    const pipeline = new Pipeline(store, clock, options.fairness);
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

  /** A new daemon on the same database and rack. */
  restart(): void {
    this.kill();
    const dead = this.#daemon;
    this.#daemon = this.#startDaemon();
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

  #startDaemon(): Daemon {
    const { store, clock, ids } = this;
    const started = clock.now();
    const drive = (process: TestProcess): BootDriveDeps => ({
      events: process.events,
      ids,
      bootWindow: BOOT_WINDOW,
      deadlines: new BootDeadlines(
        { read: store.read, clock, attendance: { since: started } },
        { ceiling: STAGE_DEADLINE, floor: STAGE_FLOOR, factor: 3, verify: VERIFY_DEADLINE },
      ),
      takeDeadline: TAKE_DEADLINE,
      fleet: new BmcFleet({
        read: store.read,
        guards: new Guards(clock),
        unseal: () => new Secret('secret'),
        connect: ({ address }) => mortal(this.#machineAt(address), process),
        onCommand: () => undefined,
      }),
    });
    const made: { pool?: ReadyPool; care?: MachineCare; provision?: ProvisionSaga; providers?: Providers } = {};
    const retry = exponentialRetry(3);
    const process = new TestProcess({
      store,
      clock,
      owner: 'daemon',
      soleOwner: true,
      retry,
      onPoint: (what) => this.onPoint(what),
      sagas: (self) => {
        const { events, sagas } = self;
        const care = new MachineCare({ events, clock, sagas, drive: { ...drive(self), retry } });
        const ours = bareMetal({
          ...drive(self),
          care,
          retry,
          systemFiles: loadSystemFiles(),
          agentUrl: 'https://10.77.0.1:8443',
          caPem: '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n',
          verify: {
            ...drive(self),
            probe: async (target) => probeRack(this.rack, await this.atProbe(target)),
          },
        });
        const byHand = manual({
          ...{ events, deadline: VERIFY_DEADLINE },
          probe: async (target) => {
            await this.atProbe(target);
          },
        });
        const mortally = { store: mortalStore(store, self), clock };
        const providers = new Providers(ours, byHand, simulation(mortally, [simulatedCluster]));
        const provision = provisionSaga(providers);
        const pool = new ReadyPool({ events, clock, sagas, drive: { ...drive(self), retry } });
        Object.assign(made, { pool, care, provision, providers });
        return [
          bindSaga(provision, undefined, new ProvisionListener({ events, sagas, provision, providers, clock, ids })),
          ...care.definitions.map((definition) => bindSaga(definition, undefined, care.listener)),
          ...pool.definitions.map((definition) => bindSaga(definition, undefined, pool.listener)),
        ];
      },
    });
    const { events } = process;
    const died = Promise.withResolvers<undefined>();
    const plane = {
      store: mortalStore(store, process),
      events,
      tokenKey: createSecretKey(Buffer.alloc(32, 7)),
      clock,
      ids,
    };
    const { pool, care, provision, providers } = made;
    if (pool === undefined || care === undefined || provision === undefined || providers === undefined)
      throw new Error('the process has bound no sagas');
    const bell = new MachineBell(events);
    process.run();
    const dispatched = { ...plane, sagas: process.sagas, log: silentLog };
    const dispatcher = new Dispatcher(dispatched, this.#fairness);
    const death = new AbortController();
    void died.promise.then(() => death.abort());
    void dispatcher.run(death.signal);
    const known = new StoreBootDirector({ ...plane, bell, imagesUrl: 'http://10.77.0.1:8080' });
    const sealing = { seal: () => 'sealed', unseal: () => new Secret('secret') };
    const discovery = new Discovery({ ...plane, ...sealing, care, log: silentLog });
    return {
      process,
      dispatcher,
      discovery,
      hedging: new Hedging({ ...dispatched, provision }, { hedge: true }),
      known,
      bell,
      pool,
      care,
      provision,
      providers,
      director: new DiscoveryDirector({ ...plane, known, onDiscovered: () => undefined }, { most: MOST_STRANGERS }),
      agents: new StoreAgentDesk(plane),
      replaced: Promise.withResolvers<undefined>(),
      died,
    };
  }

  #machineAt(address: string): RackMachine {
    const machine = this.rack[Number(address.split('.').at(-1)) - 1];
    if (machine === undefined) throw new Error(`no BMC at ${address}`);
    return machine;
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

function mortalStore(store: Store, process: TestProcess): Store {
  return {
    ...store,
    transaction: async (work) => {
      await process.point('write');
      const result = await store.transaction(work);
      await process.point('written');
      return result;
    },
  };
}

/** A machine's BMC as one process reaches it: a dead one reaches nothing. */
function mortal(machine: RackMachine, process: TestProcess): RackMachine {
  return new Proxy(machine, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== 'function') return value;
      return async (...args: unknown[]) => {
        await process.point('effect');
        const result: unknown = await (value as (...given: unknown[]) => unknown).apply(target, args);
        await process.point('effected');
        return result;
      };
    },
  });
}
