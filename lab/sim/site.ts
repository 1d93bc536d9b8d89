import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { tinyDisk } from '../disk/tiny-disk.ts';
import { run } from '../process/run.ts';
import type { ApiClient } from '../site/api-client.ts';
import type { Daemon } from '../site/daemon.ts';
import { startDaemon } from '../site/daemon.ts';
import type { Server } from '../site/server.ts';
import { EventFollower, tally } from './event-follower.ts';
import { insist } from './insist.ts';
import type { Inventory } from './inventory.ts';
import { describeSite, flavorOf, IMAGE, regionOf } from './inventory.ts';
import type { MachineSpec } from './machine-spec.ts';
import type { SimulatedRack, SimulatedRackOptions } from './rack.ts';
import { openSimulatedRack } from './rack.ts';

/** A real appliance on a simulated rack, its inventory filled in by the public API, and tenants who order. */
export interface SimulatedSite {
  /** The machines' side: statistics, mains. */
  readonly simulation: SimulatedRack;
  readonly machines: readonly MachineSpec[];
  readonly daemon: Daemon;
  readonly operator: ApiClient;
  /** The first of them; what they all have ordered the operator sees. */
  readonly tenant: ApiClient;
  /** States of machines and requests by id, as of the last `until`. */
  readonly follower: EventFollower;
  /** Writes a machine into the inventory; returns its id. Its inspection begins by itself. */
  register(machine: MachineSpec): Promise<string>;
  /** Registers machines, a few at a time, and waits until all were inspected; rejects when one was quarantined. Their ids, in order. */
  enrol(machines: readonly MachineSpec[], withinMs?: number): Promise<string[]>;
  /** Orders a server with so many cores, once, however often it must ask, as one of the tenants; where a relay's machines are, when it is named by its address. */
  order(hostname: string, cores: number, relay?: string): Promise<Server>;
  /** Runs a command on a server by OpenSSH as its tenant, trusting nothing but the host key that the API told. */
  ssh(server: Server, command: string): Promise<string>;
  /** What `rackstart doctor` says; rejects when an invariant is broken. */
  doctor(): Promise<string>;
  close(): Promise<void>;
}

export interface SimulatedSiteOptions extends SimulatedRackOptions {
  /** Lines behind the daemon's configuration, which ends with its provisioning network. */
  readonly settings?: readonly string[];
  /** What its one image has; a few kilobytes unless told. */
  readonly disk?: Buffer;
}

/** Nothing of what machines are sent is ever run: kernel and initrd are a few bytes. Rejects with nothing left behind. */
export async function openSimulatedSite(options: SimulatedSiteOptions): Promise<SimulatedSite> {
  const { directory, settings = [], disk = tinyDisk() } = options;
  await mkdir(directory, { recursive: true });
  const simulation = await openSimulatedRack(options);
  let daemon: Daemon | undefined;
  try {
    const kernel = join(directory, 'vmlinuz');
    await writeFile(kernel, 'kernel');
    await writeFile(join(directory, 'initrd'), 'initrd');
    const listed = simulation.relays.map(({ address }) => `{ address: ${address} }`).join(', ');
    const configuration = [`    relays: [${listed}]`, ...WORKED_ON_AT_ONCE, ...settings];
    daemon = await startDaemon(simulation.rack, join(directory, 'appliance'), kernel, configuration);
    const inventory = await describeSite(simulation, daemon.api, directory, disk);
    return new OpenSite({ simulation, daemon, ...inventory });
  } catch (error) {
    await daemon?.stop();
    await simulation.close();
    throw error;
  }
}

// A storm is orders of hundreds of servers by a tenant or two that are worked on at once: the product would do five at a time.
const WORKED_ON_AT_ONCE = ['fairness: { perTenant: 10000, inAll: 10000 }'];

// How many requests are under way at once: more would wait in the appliance instead of here.
const AT_ONCE = 16;

interface Parts extends Inventory {
  readonly simulation: SimulatedRack;
  readonly daemon: Daemon;
}

class OpenSite implements SimulatedSite {
  readonly simulation: SimulatedRack;
  readonly machines: readonly MachineSpec[];
  readonly daemon: Daemon;
  readonly operator: ApiClient;
  readonly tenant: ApiClient;
  readonly follower: EventFollower;
  readonly #tenants: readonly ApiClient[];
  readonly #parts: Parts;
  #orders = 0;

  constructor(parts: Parts) {
    const { simulation, daemon, tenantKeys } = parts;
    this.#parts = parts;
    this.simulation = simulation;
    this.machines = simulation.machines;
    this.daemon = daemon;
    this.operator = daemon.api;
    this.#tenants = tenantKeys.map((key) => daemon.api.as(key));
    this.tenant = this.#tenants[0]!;
    this.follower = new EventFollower(daemon.api);
  }

  async register(machine: MachineSpec): Promise<string> {
    const { name, mac, bmc, hardware } = machine;
    const disk = { minBytes: hardware.diskGib * 2 ** 29 };
    const body = { name, rack: this.#parts.racks.get(machine), bmc, disk, nics: [{ mac, role: 'both' }] };
    return (await insist(() => this.operator.post<{ id: string }>('/machines', body))).id;
  }

  async enrol(machines: readonly MachineSpec[], withinMs = 60_000): Promise<string[]> {
    const ids = await inTurns(machines, AT_ONCE, (machine) => this.register(machine));
    const states = () => ids.map((id) => this.follower.machines.get(id) ?? 'enrolled');
    await this.follower.until(
      () => `the inspection of ${ids.length} machines; ${tally(states())}`,
      withinMs,
      () => {
        if (states().includes('quarantined')) throw new Error(`of ${ids.length} machines are ${tally(states())}`);
        return states().every((state) => state === 'available');
      },
    );
    return ids;
  }

  order(hostname: string, cores: number, relay?: string): Promise<Server> {
    const number = this.#orders++;
    const tenant = this.#tenants[number % this.#tenants.length]!;
    const order = { hostname, region: regionOf(relay), flavor: flavorOf(cores), image: IMAGE };
    const body = { ...order, sshKeys: [this.#parts.sshKey] };
    return insist(() => tenant.post('/servers', body, `order-${number}`));
  }

  ssh({ id, connection }: Server, command: string): Promise<string> {
    const [address] = connection?.addresses ?? [];
    if (connection === null || address === undefined) throw new Error(`Server ${id} has no address yet.`);
    const knownHosts = `KnownHostsCommand=/bin/echo ${address} ${connection.hostKey}`;
    const options = ['StrictHostKeyChecking=yes', 'UserKnownHostsFile=/dev/null', knownHosts, 'BatchMode=yes'];
    const login = ['-i', this.#parts.sshKeyFile, ...options.flatMap((option) => ['-o', option])];
    return run(this.simulation.rack.exec(['ssh', ...login, `${connection.username}@${address}`, command]));
  }

  doctor(): Promise<string> {
    const main = join(import.meta.dirname, '../../appliance/main.ts');
    return run([process.execPath, main, 'doctor', '--config', this.daemon.configFile]);
  }

  async close(): Promise<void> {
    await this.daemon.stop();
    await this.simulation.close();
  }
}

/** Calls `work` for all, at most `atOnce` at a time; the results are in the order of the items. */
export async function inTurns<T, R>(
  items: readonly T[],
  atOnce: number,
  work: (item: T, index: number) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  const queue = items.entries();
  const worker = async () => {
    for (const [index, item] of queue) results[index] = await work(item, index);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  return results;
}
