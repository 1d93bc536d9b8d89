import { writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';

import { onAbruptEnd } from '../process/abrupt-end.ts';
import { run } from '../process/run.ts';
import { startProcess } from '../process/start.ts';
import { addNamespace, namespaceName, removeNamespace } from '../rack/namespace.ts';
import type { Rack } from '../rack/rack.ts';
import { openRack } from '../rack/rack.ts';
import type { BmcFaultRates } from './bmc-server-faults.ts';
import type { FaultRates } from './faults.ts';
import { describeMachine, describeRelays, fleetNetworks } from './fleet.ts';
import type { MachineSpec, SimulationSpec } from './machine-spec.ts';
import type { HardwareModel } from './models.ts';
import type { RelaySpec } from './relay.ts';
import type { Statistics } from './statistics.ts';

export interface SimulatedRackOptions {
  /** Letters, digits and hyphens. */
  readonly name: string;
  /** Takes logs; whoever named it removes it. Its path must leave room for a unix socket's name. */
  readonly directory: string;
  /** At most 10,000. */
  readonly machines: number;
  /** How many times as fast as real machines; 1 unless told. */
  readonly speed?: number;
  /** The same seed: the same machines, delays and faults. */
  readonly seed?: string;
  readonly faults?: FaultRates;
  /** What the nth machine is, from 1; the models in turn unless told. */
  readonly hardware?: (machine: number) => HardwareModel;
  /** Of the nth machine's BMC, in place of those of the whole fleet. */
  readonly bmcFaults?: (machine: number) => BmcFaultRates | undefined;
  /** What more there is to say of the nth machine: what is wrong with it. */
  readonly more?: (machine: number) => Pick<MachineSpec, 'mishap' | 'faults'>;
  /** How many relays machines hang behind, in equal parts beside those that broadcast; none unless told. */
  readonly relays?: number;
}

/**
 * A rack whose machines are simulated, by one process in a network namespace of their own.
 *
 * A bench has all of them boot at once like so: `cutMains`, then enrol or order through the appliance's API, which powers each on by
 * its BMC; when `statistics` says that all are on, `forget` and `restoreMains`; then read `statistics` until it has what is expected.
 * `answers.dhcp.p99` and `answers.script.p99` are what machines waited for the appliance; `lateness.p99` says how far to believe it.
 */
export interface SimulatedRack {
  /** The appliance's side: the switch, and no machine of its own. */
  readonly rack: Rack;
  readonly machines: readonly MachineSpec[];
  readonly relays: readonly RelaySpec[];
  /** How many times as fast as real machines. */
  readonly speed: number;
  /** Of the process that all machines are in. */
  readonly pid: number;
  statistics(): Promise<Statistics>;
  /** Begins the statistics anew. */
  forget(): Promise<void>;
  /** From here on, machines that are told to start wait for the mains; those that run go on. */
  cutMains(): Promise<void>;
  restoreMains(): Promise<void>;
  /** Removes everything, as it also goes when this process ends without closing. */
  close(): Promise<void>;
}

/** Rejects with nothing left behind. Needs root. */
export async function openSimulatedRack(options: SimulatedRackOptions): Promise<SimulatedRack> {
  const { name, directory, machines: count, seed = name, speed = 1, faults = {}, hardware, bmcFaults, more } = options;
  const relays = describeRelays(options.relays ?? 0);
  const machines = Array.from({ length: count }, (_, index) => {
    const machine = describeMachine(seed, index + 1, relays);
    const faulty = bmcFaults?.(index + 1);
    return {
      ...machine,
      hardware: hardware?.(index + 1) ?? machine.hardware,
      ...(faulty === undefined ? {} : { bmcFaults: faulty }),
      ...more?.(index + 1),
    };
  });
  const rack = await openRack({ name, directory, machines: [] });
  const netns = namespaceName(`${name}-machines`);
  const cancel = onAbruptEnd(() => removeNamespace(netns));
  let stop: () => Promise<unknown> = () => Promise.resolve();
  const close = async () => {
    await stop();
    removeNamespace(netns);
    cancel();
    await rack.close();
  };
  try {
    await addNamespace(netns, ['link set lo up']);
    await plugIn(rack, netns);
    const controlSocket = join(directory, 'control.sock');
    const spec: SimulationSpec = {
      ...{ device: DEVICE, appliance: addressOf(rack), seed, speed, faults, relays, machines, controlSocket },
    };
    const file = join(directory, 'simulation.json');
    writeFileSync(file, JSON.stringify(spec), { mode: 0o600 });
    const simulation = await startProcess({
      argv: ['ip', 'netns', 'exec', netns, process.execPath, join(import.meta.dirname, 'main.ts'), file],
      logFile: join(directory, 'simulation.log'),
    });
    stop = () => simulation.stop();
    await simulation.line(/machines are plugged in/, 60_000);
    const command = (method: string, path: string) => askControl(controlSocket, method, path);
    return {
      ...{ rack, machines, relays, speed, pid: simulation.pid, close },
      statistics: async () => (await command('GET', '/statistics')) as Statistics,
      forget: () => command('POST', '/forget').then(() => undefined),
      cutMains: () => command('POST', '/mains/cut').then(() => undefined),
      restoreMains: () => command('POST', '/mains/restore').then(() => undefined),
    };
  } catch (error) {
    await close();
    throw error;
  }
}

const DEVICE = 'nics';

/**
 * One cable for all machines, from their namespace to the rack's switch. Not in the rack's own namespace: there the kernel
 * would drop what comes from its own addresses, and carry TCP past the switch. Every address of their networks is local here but for the
 * appliance's: so none has to be added when a machine gets it.
 *
 * They are reached by way of one neighbour: the kernel keeps 1,024 for all namespaces together (gc_thresh3), and drops packets to more.
 */
async function plugIn(rack: Rack, netns: string): Promise<void> {
  const appliance = addressOf(rack);
  const networks = Object.values(fleetNetworks);
  const atSwitch = [
    `link add port type veth peer name ${DEVICE} netns ${netns}`,
    `link set port master ${rack.bridge} up`,
    ...networks.map((network) => `route add ${network} via ${NEIGHBOUR} dev ${rack.bridge} onlink src ${appliance}`),
  ];
  const atMachines = [
    `link set ${DEVICE} addrgenmode none up`,
    ...networks.map((network) => `route add local ${network} dev lo table local`),
    `route add ${appliance}/32 dev ${DEVICE} table local`,
  ];
  await run(['ip', '-n', rack.netns, '-batch', '-'], { input: atSwitch.join('\n') + '\n' });
  await run(['ip', '-n', netns, '-batch', '-'], { input: atMachines.join('\n') + '\n' });
}

const NEIGHBOUR = '10.78.255.254';

function addressOf({ applianceAddress }: Rack): string {
  return applianceAddress.ipv4.split('/')[0]!;
}

async function askControl(socketPath: string, method: string, path: string): Promise<unknown> {
  const { promise, resolve, reject } = Promise.withResolvers<unknown>();
  request({ socketPath, method, path })
    .once('error', reject)
    .once('response', (response) => {
      if (method === 'GET') json(response).then(resolve, reject);
      else response.resume().once('end', resolve);
    })
    .end();
  return promise;
}
