import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';

import type { OsImage } from '../../images/os/build.ts';
import { buildOsImage } from '../../images/os/build.ts';
import { buildRamdisk } from '../../images/ramdisk/build.ts';
import { run } from '../process/run.ts';
import { until } from '../process/until.ts';
import type { MachineSpec } from '../rack/machine.ts';
import type { Rack } from '../rack/rack.ts';
import { openRack } from '../rack/rack.ts';
import type { ApiClient } from './api-client.ts';
import type { Daemon } from './daemon.ts';
import { startDaemon } from './daemon.ts';
import type { Server, Timeline } from './server.ts';
import { restingStates } from './server.ts';

export interface SiteOptions {
  readonly name: string;
  /** Takes everything that is written, logs included; whoever named it removes it. */
  readonly directory: string;
  readonly machines: readonly MachineSpec[];
  readonly progress: (line: string) => void;
  /** Lines behind the daemon's configuration, which ends with its provisioning network. */
  readonly settings?: readonly string[];
  /** Also has a Debian with cloud-init, as `debian-cloud`. */
  readonly cloudImage?: boolean;
  /** What kexec tells the images' kernels beside their usual arguments; the boot loader on the disk knows nothing of it. */
  readonly kexecArgs?: string;
}

/** What an order says beside its hostname: the lab's flavor and `debian`, without user data, unless told. */
export interface OrderDetails {
  readonly image?: 'debian' | 'debian-cloud';
  readonly flavor?: string;
  readonly userData?: string;
}

/** A rack, the appliance on it with its inventory filled in, and a tenant who orders. */
export interface Site {
  readonly rack: Rack;
  readonly daemon: Daemon;
  /** An operator's, and the tenant's, view of the API. */
  readonly operator: ApiClient;
  readonly tenant: ApiClient;
  /** The tenant's SSH key: the private part's file. */
  readonly sshKeyFile: string;
  /** Enrols a machine, which begins its inspection. Returns its id. */
  add(name: string): Promise<string>;
  /** Waits until its inspection has ended; rejects when it is set aside. */
  inspected(id: string): Promise<void>;
  /** Both. Returns its id. */
  enrol(name: string): Promise<string>;
  /** Has a machine wait in the ramdisk for its order; rejects when it does not come there. */
  warm(id: string): Promise<void>;
  /** Orders a server that there is no machine for: it comes to nothing, and tells what the next one will likely be ordered with. */
  orderInVain(): Promise<void>;
  /** Waits until a machine that waits has written the likely image, for the time of this number since it was built. */
  wroteAhead(name: string, time?: number): Promise<void>;
  /** Has a machine expected, and presses its button: it boots from the network unknown, and gets available by itself. Returns its id. */
  discover(name: string): Promise<string>;
  /** Orders a server as the tenant. */
  order(hostname: string, details?: OrderDetails): Promise<Server>;
  /** Polls a server until it rests; `onChange` sees it and its timeline on the way. */
  settle(
    id: string,
    withinMs: number,
    onChange?: (server: Server, timeline: Timeline) => void | Promise<void>,
  ): Promise<Server>;
  /** Runs a command on a server as the tenant, trusting nothing but the host key that the API told. */
  ssh(server: Server, command: string): Promise<string>;
  /** A machine's state as the operator sees it. */
  machine(id: string): Promise<MachineView>;
  /** What `rackstart doctor` says; rejects when an invariant is broken. */
  doctor(): Promise<string>;
  close(): Promise<void>;
  readonly directory: string;
}

/** What the API says of a machine, as far as the lab looks at it. */
export interface MachineView {
  readonly name: string;
  readonly state: string;
  readonly diskState: string;
  readonly quarantineReason: string | null;
}

/** What several machines may take to be inspected and checked side by side, on two busy cores. */
const BOOT_MS = 8 * 60_000;
const IN_VAIN_MS = 60_000;

const FLAVOR = 'lab';
const REGION = 'lab';

/** Opens a rack, starts the appliance on it and describes it by the public API. Ends what it started when it rejects. */
export async function openSite(options: SiteOptions): Promise<Site> {
  const { name, directory, machines, progress, settings, cloudImage = false, kexecArgs = '' } = options;
  await mkdir(directory, { recursive: true });
  const cacheDirectory = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'rackstart');
  const ramdisk = await buildRamdisk({ cacheDirectory, progress });
  const build = (file: string, cloudInit = false) => buildOsImage({ cacheDirectory, name: file, cloudInit, progress });
  const images = new Map([['debian', await build('debian-12')]]);
  if (cloudImage) images.set('debian-cloud', await build('debian-12-cloud', true));
  const rack = await openRack({ name, directory: join(directory, 'rack'), machines });
  try {
    progress(`rack: ${machines.map((machine) => `${machine.name} (${machine.firmware})`).join(', ')}, all off`);
    const daemon = await startDaemon(rack, join(directory, 'appliance'), ramdisk.kernel, settings);
    progress('appliance: ready');
    const inventory = await describe(daemon.api, images, kexecArgs);
    progress('inventory: region, rack, flavor, subnet, tenant and images are in');
    const sshKeyFile = makeSshKey(directory);
    return new OpenSite({ rack, daemon, sshKeyFile, directory, ...inventory });
  } catch (error) {
    await rack.close();
    throw error;
  }
}

interface Parts {
  rack: Rack;
  daemon: Daemon;
  sshKeyFile: string;
  directory: string;
  rackId: string;
  tenantKey: string;
}

class OpenSite implements Site {
  readonly rack: Rack;
  readonly daemon: Daemon;
  readonly operator: ApiClient;
  readonly tenant: ApiClient;
  readonly sshKeyFile: string;
  readonly directory: string;
  readonly #rackId: string;

  constructor({ rack, daemon, sshKeyFile, directory, rackId, tenantKey }: Parts) {
    this.rack = rack;
    this.daemon = daemon;
    this.operator = daemon.api;
    this.tenant = daemon.api.as(tenantKey);
    this.sshKeyFile = sshKeyFile;
    this.directory = directory;
    this.#rackId = rackId;
  }

  async add(name: string): Promise<string> {
    const { mac, bmc } = this.rack.machine(name);
    const { id } = await this.operator.post<{ id: string }>('/machines', {
      name,
      rack: this.#rackId,
      // ipmi_sim has no SHA-256: cipher suite 17 is shown against another BMC.
      bmc: { ...bmc, cipherSuite: 3 },
      nics: [{ mac, role: 'both' }],
    });
    return id;
  }

  async inspected(id: string): Promise<void> {
    await this.#rests(id, 'available');
  }

  async enrol(name: string): Promise<string> {
    const id = await this.add(name);
    await this.inspected(id);
    return id;
  }

  async discover(name: string): Promise<string> {
    const { serial, bmc } = this.rack.machine(name);
    const place = { serial, name, region: REGION, rack: 'rack-1', unit: 1, bmc_address: bmc.address };
    const login = { bmc_port: bmc.port, bmc_user: bmc.username, bmc_password: bmc.password, cipher_suite: 3 };
    const row = { ...place, ...login };
    const text = `${Object.keys(row).join()}\n${Object.values(row).join()}\n`;
    await this.operator.post('/manifest', { format: 'csv', text });
    // As a person at the rack: the appliance has never talked to this BMC.
    const peer = ['-I', 'lanplus', '-C', '3', '-H', bmc.address, '-p', String(bmc.port), '-U', bmc.username, '-E'];
    for (const command of [
      ['bootdev', 'pxe'],
      ['power', 'on'],
    ]) {
      const env = { IPMI_PASSWORD: bmc.password };
      await run(this.rack.exec(['ipmitool', ...peer, 'chassis', ...command]), { env });
    }
    const id = await until(`${name} to be taken in`, BOOT_MS, async () => {
      const { machines } = await this.operator.get<{ machines: { id: string; name: string }[] }>('/machines');
      return machines.find((machine) => machine.name === name)?.id ?? false;
    });
    await this.inspected(id);
    return id;
  }

  async warm(id: string): Promise<void> {
    await this.operator.post(`/machines/${id}/warm`, {});
    await this.#rests(id, 'ready');
  }

  async orderInVain(): Promise<void> {
    const { id } = await this.order('too-early');
    const { state, attempts } = await this.settle(id, IN_VAIN_MS);
    if (state !== 'rolled-back' || attempts.some(({ machine }) => machine !== null)) {
      throw new Error(`an order that there was no machine for is ${state}`);
    }
  }

  /** As its console tells, from which nothing is cut off: nothing depends on it, so that the appliance is not told. */
  async wroteAhead(name: string, time = 1): Promise<void> {
    const { serialLog } = this.rack.machine(name);
    await until(`${name} to have its image written ahead`, BOOT_MS, () => {
      const printed = readFileSync(serialLog, 'latin1');
      if (printed.includes('ahead given up')) throw new Error(`${name} has given up to write its image ahead`);
      return printed.split('ahead done').length > time;
    });
  }

  async #rests(id: string, wanted: 'available' | 'ready'): Promise<void> {
    await until(`machine ${id} to be ${wanted}`, BOOT_MS, async () => {
      const { name, state, quarantineReason } = await this.machine(id);
      if (state === 'quarantined') throw new Error(`${name} was quarantined: ${quarantineReason ?? ''}`);
      if (wanted === 'ready' && state === 'available') throw new Error(`${name} did not get warm`);
      return state === wanted;
    });
  }

  order(hostname: string, { image = 'debian', flavor = FLAVOR, ...more }: OrderDetails = {}): Promise<Server> {
    const sshKeys = [readFileSync(`${this.sshKeyFile}.pub`, 'utf8').trim()];
    return this.tenant.post('/servers', { hostname, region: REGION, flavor, image, sshKeys, ...more });
  }

  async settle(
    id: string,
    withinMs: number,
    onChange: (server: Server, timeline: Timeline) => void | Promise<void> = () => undefined,
  ): Promise<Server> {
    return until(`server ${id} to rest`, withinMs, async () => {
      const server = await this.tenant.get<Server>(`/servers/${id}`);
      await onChange(server, await this.tenant.get<Timeline>(`/servers/${id}/timeline`));
      return restingStates.includes(server.state) && server;
    });
  }

  ssh({ id, connection }: Server, command: string): Promise<string> {
    const [address] = connection?.addresses ?? [];
    if (connection === null || address === undefined) throw new Error(`Server ${id} has no address yet.`);
    const knownHosts = `KnownHostsCommand=/bin/echo ${address} ${connection.hostKey}`;
    const options = ['StrictHostKeyChecking=yes', 'UserKnownHostsFile=/dev/null', knownHosts, 'BatchMode=yes'];
    return run(
      this.rack.exec([
        'ssh',
        '-i',
        this.sshKeyFile,
        ...options.flatMap((option) => ['-o', option]),
        `${connection.username}@${address}`,
        command,
      ]),
    );
  }

  machine(id: string): Promise<MachineView> {
    return this.operator.get(`/machines/${id}`);
  }

  doctor(): Promise<string> {
    const main = join(import.meta.dirname, '../../appliance/main.ts');
    return run([process.execPath, main, 'doctor', '--config', this.daemon.configFile]);
  }

  async close(): Promise<void> {
    await this.daemon.stop();
    await this.rack.close();
  }
}

async function describe(
  api: ApiClient,
  images: ReadonlyMap<string, OsImage>,
  kexecArgs: string,
): Promise<{ rackId: string; tenantKey: string }> {
  const region = await api.post<{ id: string }>('/regions', { name: REGION });
  const rack = await api.post<{ id: string }>('/racks', { region: region.id, name: 'rack-1' });
  await api.post('/flavors', { name: FLAVOR, cores: 1, memoryMib: 512, diskGib: 3, nics: 'same' });
  await api.post('/subnets', {
    region: region.id,
    role: 'both',
    cidr: '10.77.0.0/24',
    gateway: '10.77.0.1',
    reservations: { first: '10.77.0.10', last: '10.77.0.99' },
    servers: { first: '10.77.0.100', last: '10.77.0.199' },
    leases: { first: '10.77.0.200', last: '10.77.0.250' },
  });
  await api.post('/subnets', {
    region: region.id,
    role: 'both',
    cidr: 'fd77::/64',
    gateway: 'fd77::1',
    servers: { first: 'fd77::1:0', last: 'fd77::1:ffff' },
  });
  const tenant = await api.post<{ id: string }>('/tenants', { name: 'demo' });
  const { key } = await api.post<{ key: string }>('/api-keys', { name: 'demo', tenant: tenant.id });
  for (const [image, file] of images) await addImage(api, file, image, kexecArgs);
  return { rackId: rack.id, tenantKey: key };
}

async function addImage(api: ApiClient, image: OsImage, name: string, kexecArgs: string): Promise<void> {
  const query = new URLSearchParams({
    name,
    version: '12',
    sha256: image.sha256,
    rootPartition: String(image.rootPartition),
    kernelArgs: `${image.kernelArgs} ${kexecArgs}`.trim(),
  });
  await api.upload(`/images?${query.toString()}`, image.path, 'application/zstd');
}

function makeSshKey(directory: string): string {
  const file = join(directory, 'tenant-key');
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'tenant', '-f', file]);
  return file;
}
