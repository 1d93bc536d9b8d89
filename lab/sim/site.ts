import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';

import { until } from '../process/until.ts';
import type { ApiClient } from '../site/api-client.ts';
import type { Daemon } from '../site/daemon.ts';
import { startDaemon } from '../site/daemon.ts';
import type { Server } from '../site/server.ts';
import type { MachineSpec } from './machine-spec.ts';
import type { SimulatedRack, SimulatedRackOptions } from './rack.ts';
import { openSimulatedRack } from './rack.ts';

/** A real appliance on a simulated rack, its inventory filled in by the public API, and a tenant who orders. */
export interface SimulatedSite {
  readonly machines: readonly MachineSpec[];
  readonly daemon: Daemon;
  readonly operator: ApiClient;
  readonly tenant: ApiClient;
  /** Enrols a machine and waits until it was inspected; returns its id. */
  enrol(machine: MachineSpec): Promise<string>;
  /** Orders a server with so many cores, as the tenant. */
  order(hostname: string, cores: number): Promise<Server>;
  close(): Promise<void>;
}

/** Nothing of what machines are sent is ever run: kernel, initrd and image are a few bytes. Rejects with nothing left behind. */
export async function openSimulatedSite(options: SimulatedRackOptions): Promise<SimulatedSite> {
  const { directory } = options;
  await mkdir(directory, { recursive: true });
  const opened = await openSimulatedRack(options);
  let daemon: Daemon | undefined;
  try {
    const kernel = join(directory, 'vmlinuz');
    await writeFile(kernel, 'kernel');
    await writeFile(join(directory, 'initrd'), 'initrd');
    daemon = await startDaemon(opened.rack, join(directory, 'appliance'), kernel);
    return await describedSite(opened, daemon, directory);
  } catch (error) {
    await daemon?.stop();
    await opened.close();
    throw error;
  }
}

const REGION = 'sim';

async function describedSite(opened: SimulatedRack, daemon: Daemon, directory: string): Promise<SimulatedSite> {
  const { machines } = opened;
  const operator = daemon.api;
  const region = await operator.post<{ id: string }>('/regions', { name: REGION });
  const rack = await operator.post<{ id: string }>('/racks', { region: region.id, name: 'rack-1' });
  for (const { cores } of machines) {
    const flavor = { name: flavorOf(cores), cores, memoryMib: 4_096, diskGib: 16, nics: 'same' };
    await operator.post('/flavors', flavor);
  }
  await operator.post('/subnets', {
    region: region.id,
    role: 'both',
    cidr: '10.77.0.0/24',
    gateway: '10.77.0.1',
    reservations: { first: '10.77.0.2', last: '10.77.0.120' },
    servers: { first: '10.77.0.121', last: '10.77.0.240' },
    leases: { first: '10.77.0.241', last: '10.77.0.250' },
  });
  const { id: tenantId } = await operator.post<{ id: string }>('/tenants', { name: 'demo' });
  const { key } = await operator.post<{ key: string }>('/api-keys', { name: 'demo', tenant: tenantId });
  const tenant = operator.as(key);
  await addImage(operator, join(directory, 'image.zst'));

  return {
    machines,
    daemon,
    operator,
    tenant,
    async enrol({ name, mac, bmc }) {
      const machine = { name, rack: rack.id, bmc, nics: [{ mac, role: 'both' }] };
      const { id } = await operator.post<{ id: string }>('/machines', machine);
      await until(`the inspection of ${name}`, 60_000, async () => {
        const { state } = await operator.get<{ state: string }>(`/machines/${id}`);
        if (state === 'quarantined') throw new Error(`${name} was quarantined`);
        return state === 'available';
      });
      return id;
    },
    order: (hostname, cores) =>
      tenant.post('/servers', {
        hostname,
        region: REGION,
        flavor: flavorOf(cores),
        image: 'empty',
        sshKeys: [SSH_KEY],
      }),
    async close() {
      await daemon.stop();
      await opened.close();
    },
  };
}

// A key that nobody has the other half of.
const SSH_KEY = `ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI${'A'.repeat(43)} nobody`;

function flavorOf(cores: number): string {
  return `cores-${cores}`;
}

async function addImage(operator: ApiClient, file: string): Promise<void> {
  const image = zstdCompressSync(Buffer.alloc(1024 ** 2));
  await writeFile(file, image);
  const sha256 = createHash('sha256').update(image).digest('hex');
  const query = new URLSearchParams({ name: 'empty', version: '1', sha256, rootPartition: '3', kernelArgs: 'quiet' });
  await operator.upload(`/images?${query.toString()}`, file, 'application/zstd');
}
