import { createHash, createSecretKey } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { hostname } from 'node:os';

import { openImages } from '../images/open-images.ts';
import { TimelinePruning } from '../pxe/timeline-pruning.ts';
import { StoreTimeline } from '../pxe/timeline-records.ts';
import { loadSystemFiles } from '../templates/system-files.ts';
import { ApiServer } from './api/api.ts';
import { Metrics } from './api/metrics.ts';
import { BootPlane } from './boot-plane.ts';
import type { Config } from './config.ts';
import { circuitAlerts } from './events/circuit-alerts.ts';
import { createEventLog } from './events/event-log.ts';
import { Sequencer } from './events/sequencer.ts';
import { Attendance } from './kernel/attendance.ts';
import type { Clock } from './kernel/clock.ts';
import { HOUR, SECOND } from './kernel/clock.ts';
import { Guards } from './kernel/guard.ts';
import { hasCode } from './kernel/errors.ts';
import type { Ids } from './kernel/ids.ts';
import type { Log } from './kernel/log.ts';
import { noPeers } from './kernel/peers.ts';
import { RedisPeers } from './kernel/redis-peers.ts';
import type { Secret } from './kernel/secret.ts';
import type { Service } from './kernel/service.ts';
import { SteadyClock } from './kernel/steady-clock.ts';
import type { Systemd } from './kernel/systemd.ts';
import { LifeSigns, noSystemd } from './kernel/systemd.ts';
import { BmcFleet } from './machines/bmc-fleet.ts';
import { followConsole } from './machines/bmc/console.ts';
import { defaultTiming, openBmc } from './machines/bmc/open-bmc.ts';
import { ConsoleCapture } from './machines/console-capture.ts';
import { BootDeadlines } from './machines/boot-deadlines.ts';
import type { BootDriveDeps } from './machines/boot-drive.ts';
import { bootTimeRecorder } from './machines/boot-times.ts';
import { Discovery } from './machines/enrolment/discovery.ts';
import { MachineBell } from './machines/machine-bell.ts';
import { MachineCare } from './machines/machine-care.ts';
import { dataKey, openMasterKeys } from './machines/master-key.ts';
import { ParkedMachines } from './pool/parked-machines.ts';
import { poolKeeper } from './pool/pool-keeper.ts';
import { ReadyPool } from './pool/ready-pool.ts';
import { bareMetal } from './providers/bare-metal/bare-metal.ts';
import { guarded } from './providers/guarded.ts';
import { manual } from './providers/manual/manual.ts';
import { Providers } from './providers/providers.ts';
import { simulation } from './providers/simulation/simulation.ts';
import { probeSsh } from './providers/ssh-probe.ts';
import { deployTimeRecorder } from './requests/deploy-times.ts';
import { Dispatcher } from './requests/dispatcher.ts';
import { Hedging } from './requests/hedging.ts';
import { ProvisionListener, provisionSaga } from './requests/provision.ts';
import { StalledRequests } from './requests/stalled.ts';
import { Sweep } from './requests/sweep.ts';
import { exponentialRetry } from './saga/retry.ts';
import { bindSaga } from './saga/saga.ts';
import { SagaRunner } from './saga/saga-runner.ts';
import { Sagas } from './saga/sagas.ts';
import { firstOperatorKey } from './start-up.ts';
import { ClockFollower } from './store/clock-follower.ts';
import { openStore } from './store/open.ts';
import type { Store } from './store/store.ts';

export interface Surroundings {
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
  /** What started us; nothing did unless told. */
  readonly systemd?: Systemd;
}

export interface Running {
  /** Where the API listens. */
  readonly api: { readonly host: string; readonly port: number };
}

/**
 * The whole daemon, in the order in which it starts; it ends, last started first, when `signal` aborts or any service fails.
 * `onReady` is called once everything listens.
 */
export async function runAppliance(
  config: Config,
  { clock, ids, log, systemd = noSystemd }: Surroundings,
  signal: AbortSignal,
  onReady: (running: Running) => void,
): Promise<void> {
  await mkdir(config.state, { recursive: true, mode: 0o700 });
  const masterKeys = await openMasterKeys(config.masterKey, ids, log);
  const store = await openStore({ url: config.store, clock, log });
  try {
    const follower = clock instanceof SteadyClock ? new ClockFollower({ store, clock, log }) : undefined;
    await follower?.begin();
    const apiKeyHmac = await dataKey(store, masterKeys, 'api-keys', ids);
    const tokenKey = createSecretKey((await dataKey(store, masterKeys, 'boot-tokens', ids)).reveal(), 'hex');
    await firstOperatorKey(store, config.state, { ids, clock, hmacKey: apiKeyHmac, log });

    // What happened, and what is under way.
    const redis = config.redis && new RedisPeers({ url: config.redis, ...together(apiKeyHmac, ids), log });
    const peers = redis ?? noPeers;
    const sequencer = new Sequencer({ store, clock, log, peers });
    const events = createEventLog({ store, clock, ids, sequencer });
    const sagas = new Sagas({ clock, ids, peers });
    const metrics = new Metrics({ read: store.read, clock, deployTarget: config.targets.deploySeconds * SECOND });
    if (redis !== undefined) metrics.redis(() => redis.connected);
    const timelineRecords = new StoreTimeline({ store, clock, ids, log });
    const timeline = metrics.counting(timelineRecords);

    const keep = config.keep.timelineDays * 24 * HOUR;
    const pruning = new TimelinePruning({ store, clock, log, keep });

    // What is called of others, cluster by cluster.
    const guards = new Guards(clock, circuitAlerts({ store, events, log }));

    // Machines: their BMCs, and how they are made to boot what they were ordered to.
    const unseal = (machineId: string, sealed: string) => masterKeys.open(sealed, machineId);
    const fleet = new BmcFleet({
      read: store.read,
      guards,
      unseal,
      connect: (endpoint, onCommand) => openBmc(endpoint, { clock, ids, log, onCommand }),
      onCommand: (mac, { at, command, ...detail }) => timeline.seen(mac, { at, source: 'bmc', name: command, detail }),
    });
    const login = { clock, ids, patience: defaultTiming.patience };
    const consoles = new ConsoleCapture({
      ...{ read: store.read, timeline, clock, log, unseal },
      follow: (endpoint, onOutput, stop) => followConsole(endpoint, login, onOutput, stop),
    });
    const { bootWindow, stage: ceiling, stageFloor: floor, stageFactor: factor, verify } = config.deadlines;
    const takeDeadline = config.deadlines.take;
    const attendance = new Attendance(clock, () => hearsMachines(store));
    const deadlines = new BootDeadlines({ read: store.read, clock, attendance }, { ceiling, floor, factor, verify });
    const { watchdog } = config.requests;
    const drive: BootDriveDeps = { events, fleet, ids, bootWindow, deadlines, takeDeadline, watchdog };
    const retry = exponentialRetry(config.retry.attempts);
    const care = new MachineCare({ events, clock, sagas, drive: { ...drive, retry } });
    const making = await openImages(config.images, { store, events, clock, ids, log });
    const { images, uploads, imports } = making;
    const bell = new MachineBell(events);
    const seal = (id: string, password: Parameters<typeof masterKeys.seal>[0]) => masterKeys.seal(password, id, ids);
    const discovery = new Discovery({ store, events, care, clock, ids, log, seal, unseal });
    const told = { store, events, bell, discovery, tokenKey, images, timeline };
    const pool = new ReadyPool({
      events,
      clock,
      sagas,
      drive: { ...drive, retry, imageAhead: config.pool.imageAhead },
    });
    const plane = await BootPlane.open(config, { ...told, clock, ids, log, systemd });

    // Requests: what a server is made of, and who makes it.
    const ours = bareMetal({
      ...drive,
      care,
      retry,
      times: metrics,
      systemFiles: loadSystemFiles(),
      agentUrl: plane.agentUrl,
      caPem: plane.caPem,
      verify: { events, ids, fleet, deadlines, probe: probeSsh },
    });
    const simulated = guarded(simulation({ store, clock }, config.simulation), guards);
    const byHand = manual({ events, deadline: verify, probe: probeSsh });
    const providers = new Providers(
      ours,
      ...(config.simulation.length > 0 ? [simulated] : []),
      ...(config.manual ? [byHand] : []),
    );
    const provision = provisionSaga(providers);
    const runner = new SagaRunner(
      { store, events, sagas, clock, log },
      {
        owner: `${hostname()}-${String(process.pid)}`,
        retry,
        grace: config.deadlines.shutdown,
        soleOwner: store.dialect === 'sqlite',
        sagas: [
          bindSaga(provision, undefined, new ProvisionListener({ events, sagas, provision, providers, clock, ids })),
          ...care.definitions.map((definition) => bindSaga(definition, undefined, care.listener)),
          ...pool.definitions.map((definition) => bindSaga(definition, undefined, pool.listener)),
        ],
      },
    );
    const dispatcher = new Dispatcher({ store, events, sagas, clock, log }, config.fairness);
    const stalled = new StalledRequests({ store, events, sagas, clock, log }, config.deadlines.progress);
    const hedging = new Hedging({ store, events, sagas, provision, clock, ids, log }, config.requests);
    const sweep = new Sweep({ store, events, providers, clock, ids, log }, { grace: config.deadlines.orphan });
    const parked = new ParkedMachines(
      { store, events, pool, bell, ramdisk: plane.ramdisk, clock, ids, log },
      { silence: config.deadlines.parked, rolledAtOnce: config.pool.rolledAtOnce },
    );
    const keeper = config.pool.keep ? poolKeeper(config.pool, { store, doors: pool, clock, log }) : undefined;
    const deployTimes = deployTimeRecorder({ store, events, clock, log, peers });
    const bootTimes = bootTimeRecorder({ store, events, clock, log, peers });

    const ordering = { sagas, provision, providers, dispatcher, uploads, images, imports };
    const machines = {
      fleet,
      care,
      pool,
      pools: () => keeper?.pools ?? [],
      discovery,
      deadlines,
      guards,
      seal,
      unseal,
    };
    const api = new ApiServer(
      { store, events, apiKeyHmac, ...ordering, ...machines, metrics, clock, ids, log },
      { ...config.api, targets: config.targets },
    );

    const ready = Promise.all([api.listening, plane.ready]);
    void ready.then(
      ([{ address, port }]) => onReady({ api: { host: address, port } }),
      () => undefined,
    );
    const probe = () => storeAnswers(store);
    const lifeSigns = new LifeSigns({ systemd, ready, probe, clock, log });
    try {
      const shared = [attendance, follower, redis];
      const records = [sequencer, timelineRecords, pruning, ...making.services, deployTimes, bootTimes];
      const boots = [...plane.services, config.console ? consoles : undefined];
      const work = [runner, dispatcher, stalled, hedging, sweep, parked, discovery, keeper];
      const services = [...shared, ...records, ...boots, ...work, api, lifeSigns];
      await runAll(
        services.filter((service) => service !== undefined),
        signal,
        log,
      );
    } finally {
      await fleet.close();
    }
  } finally {
    await store.close();
  }
}

/** What daemons with the same data keys, on one database that is, have in common, and what is this one's. */
function together(dataKey: Secret, ids: Ids): { appliance: string; self: string } {
  const appliance = createHash('sha256').update(`peers ${dataKey.reveal()}`).digest('hex').slice(0, 16);
  return { appliance, self: ids.next('proc') };
}

/** Rejects when what machines tell can't be written: they are not silent then, we are deaf. */
function hearsMachines(store: Store): Promise<void> {
  return store.transaction(() => Promise.resolve());
}

/** Rejects when a restart of ours may help. A PostgreSQL that is away is not brought back by one; boots would stop as well. */
async function storeAnswers(store: Store): Promise<void> {
  try {
    await store.read.selectFrom('sealed_keys').select('name').limit(1).execute();
  } catch (error) {
    if (store.dialect === 'sqlite' || !hasCode(error, 'store.unavailable')) throw error;
  }
}

/** Runs services side by side; when one ends, by its failure or the signal, all are told to end and waited for. */
async function runAll(services: readonly Service[], signal: AbortSignal, log: Log): Promise<void> {
  const ending = new AbortController();
  const all = AbortSignal.any([signal, ending.signal]);
  const results = await Promise.allSettled(
    services.map(async (service) => {
      try {
        await service.run(all);
        if (!all.aborted) throw new Error(`${service.name} ended by itself`);
      } catch (error) {
        if (all.aborted && error === all.reason) return;
        log.error({ service: service.name, error }, 'a service failed');
        throw error;
      } finally {
        ending.abort();
      }
    }),
  );
  const failed = results.find((result) => result.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
}
