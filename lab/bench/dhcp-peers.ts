import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { onAbruptEnd } from '../process/abrupt-end.ts';
import { run } from '../process/run.ts';
import { startProcess } from '../process/start.ts';
import { until } from '../process/until.ts';
import { addNamespace, namespaceName, removeNamespace } from '../rack/namespace.ts';
import { startDaemon } from '../site/daemon.ts';

/** Two network namespaces and one cable: what runs in one of them reaches nothing but the other. */
export interface Link {
  readonly directory: string;
  readonly atServer: (argv: readonly string[]) => string[];
  readonly atClients: (argv: readonly string[]) => string[];
  readonly close: () => void;
}

/** The server's device and address, and the addresses that clients send from, are the same on every link. */
export const DEVICE = 'br0';
export const SERVER = '10.77.0.1';
export const CLIENTS = ['10.77.0.2', '10.77.0.3'] as const;

export async function openLink(name: string, directory: string): Promise<Link> {
  await mkdir(directory, { recursive: true });
  const [server, clients] = [namespaceName(`${name}-server`), namespaceName(`${name}-clients`)];
  const remove = () => [server, clients].forEach(removeNamespace);
  const cancel = onAbruptEnd(remove);
  const close = () => {
    remove();
    cancel();
  };
  try {
    await addNamespace(server, ['link set lo up']);
    await addNamespace(clients, ['link set lo up']);
    await run(['ip', '-n', server, 'link', 'add', DEVICE, 'type', 'veth', 'peer', 'name', 'nics', 'netns', clients]);
    const atServer = [`address add ${SERVER}/16 dev ${DEVICE}`, `address add fd77::1/64 dev ${DEVICE} nodad`];
    const atClients = CLIENTS.map((address) => `address add ${address}/16 dev nics`);
    await run(['ip', '-n', server, '-batch', '-'], { input: [...atServer, `link set ${DEVICE} up`, ''].join('\n') });
    await run(['ip', '-n', clients, '-batch', '-'], { input: [...atClients, 'link set nics up', ''].join('\n') });
  } catch (error) {
    close();
    throw error;
  }
  const within = (netns: string) => (argv: readonly string[]) => ['ip', 'netns', 'exec', netns, ...argv];
  return { directory, atServer: within(server), atClients: within(clients), close };
}

/** Addresses for clients, in 10.77.0.0/16. */
export interface Pool {
  readonly first: string;
  readonly last: string;
}

export interface DhcpPeer {
  readonly name: string;
  /** What is on the disk when its ACK leaves. */
  readonly syncs: string;
  /** Resolves when it serves; what it resolves to ends it. */
  start(link: Link, pool: Pool): Promise<() => Promise<unknown>>;
}

/** The real daemon on SQLite: a lease is on the disk (fsync) before its ACK leaves. */
export const ours: DhcpPeer = {
  name: 'Rackstart',
  syncs: 'each lease, those that wait together',
  async start({ directory, atServer }, { first, last }) {
    // Nobody boots them.
    for (const file of ['vmlinuz', 'initrd']) await writeFile(join(directory, file), file);
    const place = {
      exec: atServer,
      bridge: DEVICE,
      applianceAddress: { ipv4: `${SERVER}/24`, ipv6: 'fd77::1/64' },
    } as const;
    const daemon = await startDaemon(place, join(directory, 'appliance'), join(directory, 'vmlinuz'));
    const { id: region } = await daemon.api.post<{ id: string }>('/regions', { name: 'bench' });
    await daemon.api.post('/subnets', {
      region,
      role: 'both',
      cidr: '10.77.0.0/16',
      reservations: { first: '10.77.251.0', last: '10.77.251.255' },
      servers: { first: '10.77.252.0', last: '10.77.252.255' },
      leases: { first, last },
    });
    await until('DHCP is served', 10_000, () => isBound(atServer));
    return () => daemon.stop();
  },
};

/**
 * Kea 2.2, its lease file on (`persist`), one thread. By strace it writes each lease to the file before the ACK, and never
 * syncs: leases survive the end of the process, not that of the machine's power.
 */
export const kea: DhcpPeer = {
  name: 'Kea',
  syncs: 'never',
  async start({ directory, atServer }, { first, last }) {
    const config = {
      Dhcp4: {
        'interfaces-config': { interfaces: [DEVICE] },
        'multi-threading': { 'enable-multi-threading': false },
        'lease-database': { type: 'memfile', persist: true, name: join(directory, 'kea-leases.csv') },
        'valid-lifetime': 3600,
        subnet4: [{ subnet: '10.77.0.0/16', pools: [{ pool: `${first} - ${last}` }] }],
        loggers: [{ name: 'kea-dhcp4', severity: 'ERROR', output_options: [{ output: 'stderr' }] }],
      },
    };
    const file = join(directory, 'kea.json');
    await writeFile(file, JSON.stringify(config));
    const env = { KEA_PIDFILE_DIR: directory, KEA_LOCKFILE_DIR: directory };
    const argv = atServer(['kea-dhcp4', '-c', file]);
    const server = await startProcess({ argv, env, logFile: join(directory, 'kea.log') });
    await until('Kea serves', 10_000, () => isBound(atServer));
    return () => server.stop();
  },
};

/** dnsmasq writes its whole lease file, and syncs it, for each lease. It would ping each new address for seconds: it is told not to. */
export const dnsmasq: DhcpPeer = {
  name: 'dnsmasq',
  syncs: 'each lease',
  async start({ directory, atServer }, { first, last }) {
    const where = ['--keep-in-foreground', '--conf-file=/dev/null', '--user=root', '--port=0', `--interface=${DEVICE}`];
    const leases = [`--dhcp-range=${first},${last},255.255.0.0,1h`, '--dhcp-lease-max=100000', '--dhcp-authoritative'];
    const files = [`--dhcp-leasefile=${join(directory, 'dnsmasq.leases')}`, `--pid-file=${join(directory, 'pid')}`];
    const argv = atServer(['dnsmasq', ...where, ...leases, ...files, '--no-ping', '--quiet-dhcp']);
    const server = await startProcess({ argv, logFile: join(directory, 'dnsmasq.log') });
    await until('dnsmasq serves', 10_000, () => isBound(atServer));
    return () => server.stop();
  },
};

async function isBound(atServer: Link['atServer']): Promise<boolean> {
  // Kea has a raw socket beside one that is bound to the port.
  return (await run(atServer(['ss', '-Hulnp', 'sport', '=', ':67']))) !== '';
}
