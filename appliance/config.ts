import { readFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { dirname, join, resolve } from 'node:path';

import type { ImageSettings } from '../images/images-config.ts';
import { imageSettings } from '../images/images-config.ts';
import type { TrustedRelay } from '../pxe/dhcp/relay.ts';
import { readConfigFile } from './config-file.ts';
import { HOUR, MINUTE, SECOND } from './kernel/clock.ts';
import { RackstartError } from './kernel/errors.ts';
import type { SimulatedClusterSettings } from './providers/simulation/simulated-cluster.ts';
import { simulatedClusters } from './providers/simulation/simulation-config.ts';
import { Secret } from './kernel/secret.ts';

/** One daemon's settings, checked and complete: paths absolute, defaults filled in. */
export interface Config {
  readonly state: string;
  readonly store: string;
  /** Carries words between the daemons on one database; without one each looks by itself. */
  readonly redis: Secret | undefined;
  readonly masterKey: string;
  readonly ramdisk: string;
  readonly images: ImageSettings;
  readonly log: 'debug' | 'info' | 'warn' | 'error';
  readonly api: {
    readonly host: string;
    readonly port: number;
    /** Requests: so many at once, and then so many a second. */
    readonly rateLimit: { readonly perSecond: number; readonly burst: number };
    readonly trustedProxies: readonly string[];
  };
  /** What a deploy may take from the API call to SSH: 99 in 100, and one in two. */
  readonly targets: { readonly deploySeconds: number; readonly deployMedianSeconds: number };
  /** Whether to listen to the serial consoles of booting machines. */
  readonly console: boolean;
  readonly keep: { readonly timelineDays: number };
  /** Without one the daemon serves the API alone. */
  readonly provisioning: ProvisioningConfig | undefined;
  /** How many requests are worked on at once. */
  readonly fairness: { readonly perTenant: number; readonly inAll: number };
  readonly requests: {
    /** Whether a deploy that takes longer than 95 in 100 of its model is tried on a second machine beside the first. */
    readonly hedge: boolean;
    /** Whether the watchdog timers of BMCs, where they have one, reset machines that stand still during an install. */
    readonly watchdog: boolean;
  };
  /** How often what failed in passing is tried again. */
  readonly retry: { readonly attempts: number };
  /** Clusters that are simulated. */
  readonly simulation: readonly SimulatedClusterSettings[];
  /** Whether servers may be ordered that a person makes. */
  readonly manual: boolean;
  readonly discovery: {
    /** Whether unknown machines that boot from the network are inspected, and switched off; else they are left alone. */
    readonly inspect: boolean;
    /** So many of them are kept. */
    readonly most: number;
  };
  readonly pool: {
    /** Whether machines are warmed for the orders that are expected; else by operators alone. */
    readonly keep: boolean;
    /** The share of orders that is to find a machine ready; floor and ceiling are shares of the capacity. */
    readonly serviceLevel: number;
    readonly floor: number;
    readonly ceiling: number;
    /** How long a machine takes to get ready, at the slow end. */
    readonly warmUp: number;
    /** So many machines of a rack are powered on at once. */
    readonly warmingPerRack: number;
    /** So many machines at once are warmed anew because they wait in an older ramdisk than is served; 0: none. */
    readonly rolledAtOnce: number;
    /** Whether a machine that waits has the image that it will likely be ordered with written to its disk. */
    readonly imageAhead: boolean;
  };
  readonly deadlines: Deadlines;
}

export interface ProvisioningConfig {
  readonly device: string;
  readonly address: string;
  readonly prefix6?: string;
  readonly httpPort: number;
  readonly httpsPort: number;
  /** File of an iPXE for arm64; without one such machines are offered no loader. */
  readonly arm64Loader: string | undefined;
  /** `proxy` beside a DHCP server that is not ours. */
  readonly dhcp: 'server' | 'proxy';
  /** DHCP relays of other networks that are served too, and believed. */
  readonly relays: readonly TrustedRelay[];
}

export interface Deadlines {
  /** From our BMC command to the claim: how long boot tokens live. */
  readonly bootWindow: number;
  /** What no stage of a booting machine may exceed, and what none is given less than, however fast its model is. */
  readonly stage: number;
  readonly stageFloor: number;
  /** How many times what 99 in 100 boots of a model take a stage may take. */
  readonly stageFactor: number;
  /** From the order of a machine that waits for one until its ramdisk has it; then the machine is booted anew. */
  readonly take: number;
  /** Without a question from a machine that waits for an order; it asks twice a minute. */
  readonly parked: number;
  /** From the handoff to phone-home, heartbeat and SSH. */
  readonly verify: number;
  /** In which something must happen to a request that is worked on. */
  readonly progress: number;
  /** From when something is found that nobody owns until it is removed. */
  readonly orphan: number;
  /** From the signal to end until steps that still run are told to stop. */
  readonly shutdown: number;
}

/** Errors: `config.invalid`, with one complaint a field. Relative paths are relative to the file. */
export async function loadConfig(file: string, environment: NodeJS.ProcessEnv): Promise<Config> {
  let text;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    throw new RackstartError('config.invalid', `The configuration file ${file} can't be read.`, { cause });
  }
  return parseConfig(text, dirname(resolve(file)), environment);
}

export function parseConfig(text: string, directory: string, environment: NodeJS.ProcessEnv): Config {
  const file = readConfigFile(text);
  const path = (name: string) => resolve(directory, name);
  const state = path(file.state);
  const [provisioning] = file.provisioning;
  const credentials = environment['CREDENTIALS_DIRECTORY'];
  return {
    state,
    store: file.store ?? `sqlite:${join(state, 'rackstart.db')}`,
    redis: file.redis === undefined ? undefined : new Secret(file.redis),
    masterKey: file.masterKey
      ? path(file.masterKey)
      : credentials === undefined
        ? join(state, 'master.key')
        : join(credentials, 'rackstart-master-key'),
    ramdisk: path(file.ramdisk),
    images: imageSettings(file.images, state, path),
    log: file.log ?? 'info',
    api: {
      host: file.api.host ?? '127.0.0.1',
      port: file.api.port ?? 7770,
      rateLimit: { perSecond: 100, burst: 200, ...file.api.rateLimit },
      trustedProxies: proxies(file.api.trustedProxies ?? ['127.0.0.0/8', '::1']),
    },
    targets: { deploySeconds: 78, deployMedianSeconds: 47, ...file.targets },
    console: file.console ?? true,
    keep: { timelineDays: 30, ...file.keep },
    provisioning: provisioning && {
      httpPort: 8080,
      httpsPort: 8443,
      dhcp: 'server',
      relays: [],
      ...provisioning,
      arm64Loader: provisioning.arm64Loader && path(provisioning.arm64Loader),
    },
    // In all as many as a machine room at its busiest is far below.
    fairness: { perTenant: 5, inAll: 1_000, ...file.fairness },
    requests: { hedge: false, watchdog: false, ...file.requests },
    retry: { attempts: 3, ...file.retry },
    simulation: simulatedClusters(file.simulation),
    manual: file.manual ?? false,
    discovery: { inspect: false, most: 256, ...file.discovery },
    pool: {
      ...{ keep: false, serviceLevel: 0.99, floor: 0.15, ceiling: 0.2, warmUp: 12 * MINUTE },
      ...{ warmingPerRack: 4, rolledAtOnce: 4, imageAhead: true },
      ...file.pool,
    },
    deadlines: {
      bootWindow: 15 * MINUTE,
      stage: 5 * MINUTE,
      stageFloor: 20 * SECOND,
      stageFactor: 3,
      take: 10 * SECOND,
      parked: 2 * MINUTE,
      verify: 300 * SECOND,
      progress: 30 * MINUTE,
      orphan: HOUR,
      shutdown: 30 * SECOND,
      ...file.deadlines,
    },
  };
}

/** Errors: `config.invalid` naming the one that is neither an address nor a CIDR. */
function proxies(entries: readonly string[]): readonly string[] {
  for (const [index, entry] of entries.entries()) {
    const [address = '', length = '0'] = entry.split('/');
    const bits = { 0: -1, 4: 32, 6: 128 }[isIP(address)] ?? -1;
    if (Number(length) <= bits) continue;
    const fields = [{ field: `/api/trustedProxies/${String(index)}`, message: 'must be an address or a CIDR' }];
    throw new RackstartError('config.invalid', `The trusted proxy ${entry} is no address and no CIDR.`, { fields });
  }
  return entries;
}
