import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';

import type { ApiClient } from '../site/api-client.ts';
import { insist } from './insist.ts';
import type { MachineSpec } from './machine-spec.ts';
import type { SimulatedRack } from './rack.ts';

/** What the appliance has been told of a simulated rack, its machines left out. */
export interface Inventory {
  /** The rack that a machine stands in, by its id. */
  readonly racks: ReadonlyMap<MachineSpec, string>;
  readonly tenantKeys: readonly string[];
  /** The private half of what tenants log in with. */
  readonly sshKeyFile: string;
  /** As in authorized_keys. */
  readonly sshKey: string;
}

/** The one image there is. */
export const IMAGE = 'empty';

export function flavorOf(cores: number): string {
  return `cores-${cores}`;
}

/** The region of the segment itself, or of what is behind a relay. */
export function regionOf(relay: string | undefined): string {
  return relay === undefined ? 'sim' : `sim-${relay.replaceAll('.', '-')}`;
}

const MACHINES_PER_RACK = 40;

/** The API's own limit for a tenant's servers. */
const SERVERS_PER_TENANT = 100;

/** Regions, racks, subnets, a flavor for each number of cores, tenants, `disk` as the image: by the public API. */
export async function describeSite(
  { machines, relays }: SimulatedRack,
  operator: ApiClient,
  directory: string,
  disk: Buffer,
): Promise<Inventory> {
  const racks = new Map<MachineSpec, string>();
  for (const relay of [undefined, ...relays.map(({ address }) => address)]) {
    const region = await operator.post<{ id: string }>('/regions', { name: regionOf(relay) });
    await operator.post('/subnets', { region: region.id, role: 'both', ...subnetOf(relay) });
    const here = machines.filter((machine) => machine.relay?.address === relay);
    for (let first = 0; first < here.length; first += MACHINES_PER_RACK) {
      const name = `${regionOf(relay)}-rack-${first / MACHINES_PER_RACK + 1}`;
      const { id } = await insist(() => operator.post<{ id: string }>('/racks', { region: region.id, name }));
      for (const machine of here.slice(first, first + MACHINES_PER_RACK)) racks.set(machine, id);
    }
  }
  for (const flavor of flavorsFor(machines)) await insist(() => operator.post('/flavors', flavor));
  const tenantKeys: string[] = [];
  for (let first = 0; first < machines.length; first += SERVERS_PER_TENANT) {
    const name = `tenant-${tenantKeys.length + 1}`;
    const { id: tenant } = await insist(() => operator.post<{ id: string }>('/tenants', { name }));
    tenantKeys.push((await insist(() => operator.post<{ key: string }>('/api-keys', { name, tenant }))).key);
  }
  await insist(() => addImage(operator, join(directory, 'image.zst'), disk));
  const sshKeyFile = join(directory, 'tenant-key');
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'tenant', '-f', sshKeyFile]);
  const sshKey = (await readFile(`${sshKeyFile}.pub`, 'utf8')).trim();
  return { racks, tenantKeys, sshKeyFile, sshKey };
}

function subnetOf(relay: string | undefined) {
  if (relay === undefined) {
    return {
      cidr: '10.77.0.0/16',
      gateway: '10.77.0.1',
      // Not in 10.77.0.0/24, which the appliance has on its device: machines are reached by way of one neighbour.
      reservations: { first: '10.77.1.0', last: '10.77.127.255' },
      servers: { first: '10.77.128.0', last: '10.77.254.255' },
      leases: { first: '10.77.255.0', last: '10.77.255.250' },
    };
  }
  const network = relay.replace(/\.\d+$/, '');
  return {
    cidr: `${network}.0/24`,
    gateway: relay,
    reservations: { first: `${network}.2`, last: `${network}.120` },
    servers: { first: `${network}.121`, last: `${network}.240` },
    leases: { first: `${network}.241`, last: `${network}.250` },
  };
}

/** A flavor fits every machine with its number of cores. */
function flavorsFor(machines: readonly MachineSpec[]) {
  const byCores = Map.groupBy(machines, ({ hardware }) => hardware.cores);
  return [...byCores].map(([cores, alike]) => ({
    name: flavorOf(cores),
    cores,
    memoryMib: Math.min(...alike.map(({ hardware }) => hardware.memoryMib)),
    diskGib: Math.min(...alike.map(({ hardware }) => hardware.diskGib)),
    nics: 'same',
  }));
}

async function addImage(operator: ApiClient, file: string, disk: Buffer): Promise<void> {
  const image = zstdCompressSync(disk);
  await writeFile(file, image);
  const sha256 = createHash('sha256').update(image).digest('hex');
  const query = new URLSearchParams({ name: IMAGE, version: '1', sha256, kernelArgs: 'quiet' });
  await operator.upload(`/images?${query.toString()}`, file, 'application/zstd');
}
