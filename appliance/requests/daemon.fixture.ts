import { createSecretKey } from 'node:crypto';

import type { FairnessLimits } from '../../scheduler/fairness.ts';
import { loadSystemFiles } from '../../templates/system-files.ts';
import { MINUTE, SECOND } from '../kernel/clock.ts';
import { Guards } from '../kernel/guard.ts';
import type { Ids } from '../kernel/ids.ts';
import { silentLog } from '../kernel/log.ts';
import type { ManualClock } from '../kernel/manual-clock.ts';
import { Secret } from '../kernel/secret.ts';
import { StoreAgentDesk } from '../machines/agent-desk.ts';
import { BmcFleet } from '../machines/bmc-fleet.ts';
import { StoreBootDirector } from '../machines/boot-director.ts';
import { BootDeadlines } from '../machines/boot-deadlines.ts';
import type { BootDriveDeps } from '../machines/boot-drive.ts';
import { DiscoveryDirector } from '../machines/enrolment/discovery-director.ts';
import { Discovery } from '../machines/enrolment/discovery.ts';
import { MachineBell } from '../machines/machine-bell.ts';
import { MachineCare } from '../machines/machine-care.ts';
import { probeRack } from '../machines/rack.fixture.ts';
import type { Plane, RackMachine } from '../machines/rack.fixture.ts';
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
import type { BoundSaga } from '../saga/saga.ts';
import { TestProcess } from '../saga/test-process.ts';
import type { Store } from '../store/store.ts';
import { Dispatcher } from './dispatcher.ts';
import { Hedging } from './hedging.ts';
import type { ProvisionSaga } from './provision.ts';
import { ProvisionListener, provisionSaga } from './provision.ts';

export const STAGE_DEADLINE = 10 * MINUTE;
const STAGE_FLOOR = 20 * SECOND;
export const TAKE_DEADLINE = 10 * SECOND;
export const VERIFY_DEADLINE = MINUTE;
export const MOST_STRANGERS = 4;
export const BOOT_WINDOW = 15 * MINUTE;

const atOnce = { least: 0, usual: 0, most: 0 };

/** Beside the rack: where an order of provider `simulation` goes. What runs there takes its time to start, and no call does. */
const simulatedCluster: SimulatedClusterSettings = {
  ...{ name: 'sim1', shape: 'openstack', region: 'north', seed: '7', failureRates: {} },
  delays: { ...usualDelays, create: atOnce, find: atOnce, delete: atOnce, probe: atOnce },
};

/** What a daemon finds, and what stays when it dies. */
export interface DaemonWorld {
  readonly store: Store;
  readonly clock: ManualClock;
  readonly ids: Ids;
  readonly fairness: FairnessLimits;
  readonly watchdog: boolean;
  /** By the last number of their BMC's address. */
  readonly rack: readonly RackMachine[];
  /** Asked before each probe by SSH. */
  readonly atProbe: (target: SshTarget) => SshTarget | Promise<SshTarget>;
  /** Told at each write and effect. */
  readonly onPoint: (what: string) => void;
}

/** One daemon: the real runner, boot director, agent desk and machine care over one store; it can be killed. */
export interface Daemon extends Plane, Makers {
  readonly process: TestProcess;
  readonly bell: MachineBell;
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

/** Whose sagas it runs. */
interface Makers {
  readonly care: MachineCare;
  readonly pool: ReadyPool;
  readonly provision: ProvisionSaga;
  readonly providers: Providers;
}

export function startDaemon(world: DaemonWorld): Daemon {
  const { store, clock, ids, fairness } = world;
  const made: { makers?: Makers } = {};
  const process = new TestProcess({
    ...{ store, clock, owner: 'daemon', soleOwner: true, retry: RETRY },
    onPoint: (what) => world.onPoint(what),
    sagas: (self) => sagasOf((made.makers = makersIn(world, self)), world, self),
  });
  if (made.makers === undefined) throw new Error('the process has bound no sagas');
  const { makers } = made;
  const { events, sagas } = process;
  const tokenKey = createSecretKey(Buffer.alloc(32, 7));
  const plane = { store: mortalStore(store, process), events, tokenKey, clock, ids };
  const bell = new MachineBell(events);
  process.run();
  const dispatched = { ...plane, sagas, log: silentLog };
  const dispatcher = new Dispatcher(dispatched, fairness);
  const died = Promise.withResolvers<undefined>();
  const death = new AbortController();
  void died.promise.then(() => death.abort());
  void dispatcher.run(death.signal);
  const known = new StoreBootDirector({ ...plane, bell, imagesUrl: 'http://10.77.0.1:8080' });
  const sealing = { seal: () => 'sealed', unseal: () => new Secret('secret') };
  return {
    ...makers,
    process,
    bell,
    dispatcher,
    discovery: new Discovery({ ...plane, ...sealing, care: makers.care, log: silentLog }),
    hedging: new Hedging({ ...dispatched, provision: makers.provision }, { hedge: true }),
    known,
    director: new DiscoveryDirector({ ...plane, known, onDiscovered: () => undefined }, { most: MOST_STRANGERS }),
    agents: new StoreAgentDesk(plane),
    replaced: Promise.withResolvers<undefined>(),
    died,
  };
}

const RETRY = exponentialRetry(3);

function makersIn(world: DaemonWorld, process: TestProcess): Makers {
  const { store, clock, rack } = world;
  const { events, sagas } = process;
  const drive = driveOf(world, process);
  const care = new MachineCare({ events, clock, sagas, drive: { ...drive, retry: RETRY } });
  const ours = bareMetal({
    ...drive,
    care,
    retry: RETRY,
    systemFiles: loadSystemFiles(),
    agentUrl: 'https://10.77.0.1:8443',
    caPem: '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n',
    verify: { ...drive, probe: async (target) => probeRack(rack, await world.atProbe(target)) },
  });
  const byHand = manual({
    ...{ events, deadline: VERIFY_DEADLINE },
    probe: async (target) => {
      await world.atProbe(target);
    },
  });
  const simulated = simulation({ store: mortalStore(store, process), clock }, [simulatedCluster]);
  const providers = new Providers(ours, byHand, simulated);
  const pool = new ReadyPool({ events, clock, sagas, drive: { ...drive, retry: RETRY, imageAhead: true } });
  return { care, pool, providers, provision: provisionSaga(providers) };
}

function sagasOf(
  { care, pool, provision, providers }: Makers,
  { clock, ids }: DaemonWorld,
  { events, sagas }: TestProcess,
): BoundSaga[] {
  return [
    bindSaga(provision, undefined, new ProvisionListener({ events, sagas, provision, providers, clock, ids })),
    ...care.definitions.map((definition) => bindSaga(definition, undefined, care.listener)),
    ...pool.definitions.map((definition) => bindSaga(definition, undefined, pool.listener)),
  ];
}

function driveOf({ store, clock, ids, rack, watchdog }: DaemonWorld, process: TestProcess): BootDriveDeps {
  return {
    events: process.events,
    ids,
    bootWindow: BOOT_WINDOW,
    deadlines: new BootDeadlines(
      { read: store.read, clock, attendance: { since: clock.now() } },
      { ceiling: STAGE_DEADLINE, floor: STAGE_FLOOR, factor: 3, verify: VERIFY_DEADLINE },
    ),
    takeDeadline: TAKE_DEADLINE,
    watchdog,
    fleet: new BmcFleet({
      read: store.read,
      guards: new Guards(clock),
      unseal: () => new Secret('secret'),
      connect: ({ address }) => mortal(machineAt(rack, address), process),
      onCommand: () => undefined,
    }),
  };
}

function machineAt(rack: readonly RackMachine[], address: string): RackMachine {
  const machine = rack[Number(address.split('.').at(-1)) - 1];
  if (machine === undefined) throw new Error(`no BMC at ${address}`);
  return machine;
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
