import { createSecretKey } from 'node:crypto';

import { MINUTE, SECOND } from '../../appliance/kernel/clock.ts';
import type { Clock } from '../../appliance/kernel/clock.ts';
import { RackstartError } from '../../appliance/kernel/errors.ts';
import { Guards } from '../../appliance/kernel/guard.ts';
import type { Ids } from '../../appliance/kernel/ids.ts';
import { silentLog } from '../../appliance/kernel/log.ts';
import type { ManualClock } from '../../appliance/kernel/manual-clock.ts';
import { Secret } from '../../appliance/kernel/secret.ts';
import { StoreAgentDesk } from '../../appliance/machines/agent-desk.ts';
import type { Bmc } from '../../appliance/machines/bmc/bmc.ts';
import { BmcFleet } from '../../appliance/machines/bmc-fleet.ts';
import { StoreBootDirector } from '../../appliance/machines/boot-director.ts';
import { BootDeadlines } from '../../appliance/machines/boot-deadlines.ts';
import type { BootDriveDeps } from '../../appliance/machines/boot-drive.ts';
import { MachineBell } from '../../appliance/machines/machine-bell.ts';
import { MachineCare } from '../../appliance/machines/machine-care.ts';
import type { Plane, Probed } from '../../appliance/machines/rack.fixture.ts';
import { ReadyPool } from '../../appliance/pool/ready-pool.ts';
import { bareMetal } from '../../appliance/providers/bare-metal/bare-metal.ts';
import { guarded } from '../../appliance/providers/guarded.ts';
import { manual } from '../../appliance/providers/manual/manual.ts';
import { Providers } from '../../appliance/providers/providers.ts';
import { shapeNames } from '../../appliance/providers/simulation/shapes.ts';
import type { SimulatedClusterSettings } from '../../appliance/providers/simulation/simulated-cluster.ts';
import { simulation } from '../../appliance/providers/simulation/simulation.ts';
import { Dispatcher } from '../../appliance/requests/dispatcher.ts';
import { Hedging } from '../../appliance/requests/hedging.ts';
import type { ProvisionSaga } from '../../appliance/requests/provision.ts';
import { ProvisionListener, provisionSaga } from '../../appliance/requests/provision.ts';
import { StalledRequests } from '../../appliance/requests/stalled.ts';
import { exponentialRetry } from '../../appliance/saga/retry.ts';
import { bindSaga } from '../../appliance/saga/saga.ts';
import { TestProcess } from '../../appliance/saga/test-process.ts';
import { loadSystemFiles } from '../../templates/system-files.ts';
import type { Effect } from './effects.ts';
import { handMade } from './hand-made.ts';
import { withEffects } from './provider-effects.ts';
import type { Rack, RackBmc } from './rack.ts';
import { stepsTwice } from './steps-twice.ts';
import type { WatchedStore } from '../../appliance/store/watched-store.fixture.ts';

const systemFiles = loadSystemFiles();
const atOnce = { least: 0, usual: 0, most: 0 };
const fiveSeconds = { least: 5 * SECOND, usual: 5 * SECOND, most: 5 * SECOND };

export interface WorkerOptions {
  readonly store: WatchedStore;
  readonly clock: ManualClock;
  readonly ids: Ids;
  /** Machine n's BMC is at 192.0.2.n. */
  readonly rack: Rack;
  readonly owner: string;
  /** Leases found at the start are dead. */
  readonly soleOwner: boolean;
  /** Told at each write and effect. */
  readonly onPoint: (what: string) => void | Promise<void>;
  /** What stands around every effect of a process, by its clock. */
  readonly effects: (clock: Clock) => Effect;
  /** Each step and each undo that is done is run once more. */
  readonly everyStepTwice: boolean;
}

/** One daemon as far as sagas and boots go, on the rack's doubles: everything but machines, BMCs, SSH and time is the product's. */
export interface Worker extends Plane {
  readonly owner: string;
  readonly process: TestProcess;
  readonly care: MachineCare;
  readonly pool: ReadyPool;
  readonly provision: ProvisionSaga;
  readonly providers: Providers;
  readonly dispatcher: Dispatcher;
  readonly stalled: StalledRequests;
  /** Begins none, and gives back what was outrun. */
  readonly hedging: Hedging;
  readonly died: PromiseWithResolvers<undefined>;
}

export function startWorker(options: WorkerOptions): Worker {
  const { store, clock, ids, rack, effects, everyStepTwice, ...process } = options;
  const retry = exponentialRetry(3);
  const made: { worker?: Pick<Worker, 'care' | 'pool' | 'provision' | 'providers'> } = {};
  const guards = new Guards(clock);
  const self = new TestProcess({
    ...{ store, clock, ids, retry, ...process, mayHang: () => !store.writing },
    sagas: (self) => {
      const { events, sagas } = self;
      const disturbed = effects(self.clock);
      const effect: Effect = async (name, work, traits) => {
        await self.point(`before ${name}`);
        const result = await disturbed(name, work, traits);
        await self.point(`after ${name}`);
        return result;
      };
      const deadlines = new BootDeadlines(
        { read: store.read, clock, attendance: { since: clock.now() } },
        { ceiling: 10 * MINUTE, floor: MINUTE, factor: 3, verify: MINUTE },
      );
      const drive: BootDriveDeps = {
        ...{ events, ids, bootWindow: 15 * MINUTE, deadlines, takeDeadline: 10 * SECOND, watchdog: true },
        fleet: new BmcFleet({
          ...{ read: store.read, guards },
          unseal: () => new Secret('secret'),
          connect: ({ address }) => bmcOf(rack.bmc(Number(address.split('.').at(-1))), effect),
          onCommand: () => undefined,
        }),
      };
      const care = new MachineCare({ events, clock, sagas, drive: { ...drive, retry } });
      const pool = new ReadyPool({ events, clock, sagas, drive: { ...drive, retry, imageAhead: true } });
      const verify = {
        ...drive,
        deadline: MINUTE,
        probe: (target: Probed, _within: number, signal: AbortSignal) =>
          effect('probe SSH', () => probe(rack, target), { signal }),
      };
      const plan = { systemFiles, agentUrl: 'https://10.77.0.1:8443', caPem: CA };
      const providers = new Providers(
        withEffects(bareMetal({ ...drive, ...plan, care, retry, verify }), effect),
        withEffects(manual(verify), effect),
        guarded(withEffects(simulation({ store, clock: self.clock }, simulatedClusters), effect), guards),
      );
      const provision = provisionSaga(providers);
      made.worker = { care, pool, provision, providers };
      const bound = [
        bindSaga(provision, undefined, new ProvisionListener({ events, sagas, provision, providers, clock, ids })),
        ...care.definitions.map((definition) => bindSaga(definition, undefined, care.listener)),
        ...pool.definitions.map((definition) => bindSaga(definition, undefined, pool.listener)),
      ];
      return everyStepTwice ? bound.map(stepsTwice) : bound;
    },
  });
  const { worker } = made;
  if (worker === undefined) throw new Error('the process has bound no sagas');
  const { events, sagas, store: own } = self;
  const service = { store: own, events, sagas, clock, log: silentLog };
  const dispatcher = new Dispatcher(service, { perTenant: 5, inAll: 1_000 });
  const died = Promise.withResolvers<undefined>();
  const death = new AbortController();
  void died.promise.then(() => death.abort());
  void dispatcher.run(death.signal);
  const plane = { store: own, events, tokenKey: createSecretKey(Buffer.alloc(32, 7)), clock, ids };
  self.run();
  return {
    ...worker,
    ...{ owner: options.owner, process: self },
    dispatcher,
    stalled: new StalledRequests(service, 30 * MINUTE),
    hedging: new Hedging({ ...service, provision: worker.provision, ids }, { hedge: false }),
    director: new StoreBootDirector({ ...plane, bell: new MachineBell(events), imagesUrl: 'http://10.77.0.1:8080' }),
    agents: new StoreAgentDesk(plane),
    died,
  };
}

function probe(rack: Rack, target: Probed): Promise<void> {
  return handMade.addresses.includes(target.host) ? Promise.resolve() : rack.probe(target);
}

/** A cluster of each shape. Calls are answered at once; servers start for a while. */
const simulatedClusters: readonly SimulatedClusterSettings[] = shapeNames.map((shape) => ({
  ...{ name: shape, shape, region: undefined, seed: 'undo', failureRates: {} },
  delays: { create: atOnce, start: fiveSeconds, find: atOnce, delete: atOnce, probe: atOnce },
}));

const CA = '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n';

/**
 * A machine's BMC as one process reaches it: a dead one reaches nothing. One that lies accepts and does nothing; where our
 * client reads back what it set (`machines/bmc`), that is what it finds.
 */
function bmcOf(machine: RackBmc, effect: Effect): Bmc {
  const nothing = () => Promise.resolve();
  const found = () => Promise.reject(new RackstartError('bmc.lied', 'accepted, and not reached'));
  return {
    power: (signal) => effect('read power', () => machine.power(), { signal }),
    setPower: (want, signal) => effect(`power ${want}`, () => machine.setPower(want), { signal, lie: found }),
    bootOnce: (device, signal) =>
      effect(`boot ${device} once`, () => machine.bootOnce(device), { signal, lie: nothing }),
    bootOnceAndReset: (device, signal) =>
      effect(`boot ${device} once and reset`, () => machine.bootOnceAndReset(device), { signal, lie: nothing }),
    clearBootOverride: (signal) =>
      effect('clear boot override', () => machine.clearBootOverride(), { signal, lie: found }),
    identity: () => machine.identity(),
    newestEvent: (signal) => effect('read event log', () => machine.newestEvent(), { signal, isSpared: true }),
    faultsSince: (after, signal) => effect('read faults', () => machine.faultsSince(after), { signal, isSpared: true }),
    watchdog: (signal) => effect('read watchdog', () => machine.watchdog(), { signal, isSpared: true }),
    stopWatchdog: (then, signal) =>
      effect(`stop watchdog, then ${then}`, () => machine.stopWatchdog(then), { signal, lie: found }),
    close: () => machine.close(),
  };
}
