import type { Command } from 'commander';

import type { ApiClient } from './client.ts';
import type { CliContext } from './context.ts';
import { UsageError } from './failure.ts';
import type { RemoteOptions } from './remote.ts';
import { asksApi, connect } from './remote.ts';
import { table } from './text.ts';

interface Subnet {
  readonly id: string;
  readonly role: string;
  readonly cidr: string;
}

interface Lease {
  readonly address: string;
  readonly state: string;
  readonly mac: string;
  readonly machine: { readonly id: string; readonly name: string } | null;
  readonly hostname: string | null;
  readonly clientId: string | null;
  readonly expiresAt: string | null;
}

interface ForeignServer {
  readonly address: string;
  readonly mac: string;
  readonly firstSeenAt: string;
  readonly lastSeenAt: string;
  readonly lastClient: string;
}

interface OfSubnet extends RemoteOptions {
  readonly subnet?: string;
}

export function leaseCommands(program: Command, context: CliContext): void {
  const group = program.command('lease').description('DHCP: who has which address, and who else gives them out');
  const command = (name: string, description: string) =>
    asksApi(
      group
        .command(name)
        .description(description)
        .option('--subnet <cidr>', 'of this subnet alone, by its CIDR or id; default: all that machines boot in'),
    );
  command('list', 'list reservations of known machines and leases of strangers').action(async (options: OfSubnet) => {
    const { api, answer } = await connect(context, options);
    const leases = await ofSubnets(api, options.subnet, (id) => leasesOf(api, id));
    const rows = leases.map(({ address, state, mac, machine, hostname, clientId, expiresAt }) => {
      return [address, state, mac, machine?.name, hostname, expiresAt, clientId];
    });
    answer({ leases }, table(['address', 'state', 'MAC', 'machine', 'hostname', 'expires', 'client id'], rows));
  });
  command('foreign-servers', 'list DHCP servers that are not ours').action(async (options: OfSubnet) => {
    const { api, answer } = await connect(context, options);
    const servers = await ofSubnets(api, options.subnet, async (id) => {
      const found = (await api.get(`/subnets/${id}/foreign-dhcp-servers`)) as { servers: ForeignServer[] };
      return found.servers;
    });
    const rows = servers.map(({ subnet, address, mac, lastSeenAt, firstSeenAt, lastClient }) => {
      return [address, mac, subnet, lastSeenAt, firstSeenAt, lastClient];
    });
    answer({ servers }, table(['server', 'MAC', 'subnet', 'last seen', 'first seen', 'last client'], rows));
  });
}

/** What there is of one subnet, or of all that machines boot in, each with its subnet's CIDR. */
async function ofSubnets<T extends object>(
  api: ApiClient,
  wanted: string | undefined,
  find: (id: string) => Promise<readonly T[]>,
): Promise<(T & { subnet: string })[]> {
  const { subnets } = (await api.get('/subnets')) as { subnets: Subnet[] };
  const asked = subnets.filter(({ id, cidr, role }) =>
    wanted === undefined ? role !== 'customer' : id === wanted || cidr === wanted,
  );
  if (wanted !== undefined && asked.length === 0) {
    throw new UsageError(`There is no subnet ${wanted}.`, 'rackstart subnet list shows what there is.');
  }
  const found = await Promise.all(asked.map(async ({ id, cidr }) => ({ cidr, list: await find(id) })));
  return found.flatMap(({ cidr, list }) => list.map((each) => ({ subnet: cidr, ...each })));
}

/** All pages, in the order of the addresses. */
async function leasesOf(api: ApiClient, subnet: string): Promise<Lease[]> {
  const leases: Lease[] = [];
  for (let after: string | null = ''; after !== null;) {
    const query = `limit=1000${after === '' ? '' : `&after=${encodeURIComponent(after)}`}`;
    const page = (await api.get(`/subnets/${subnet}/leases?${query}`)) as { leases: Lease[]; next: string | null };
    leases.push(...page.leases);
    after = page.next;
  }
  return leases.sort((a, b) => a.address.localeCompare(b.address, 'en', { numeric: true }));
}
