import type { Command } from 'commander';
import { Option } from 'commander';

import type { AddressRange } from './arguments.ts';
import { range, several } from './arguments.ts';
import type { CliContext } from './context.ts';
import type { RemoteOptions } from './remote.ts';
import { asksApi, connect, idOf } from './remote.ts';
import { table } from './text.ts';

interface NewSubnet {
  readonly region: string;
  readonly role: string;
  readonly gateway?: string;
  readonly dns?: readonly string[];
  readonly servers: AddressRange;
  readonly reservations?: AddressRange;
  readonly leases?: AddressRange;
}

interface Subnet {
  readonly id: string;
  readonly region: string;
  readonly role: string;
  readonly cidr: string;
  readonly held: number;
}

export function subnetCommands(program: Command, context: CliContext): void {
  const group = program.command('subnet').description('networks, and which of their addresses are for whom');
  asksApi(
    group
      .command('add <cidr>')
      .description('add a subnet, such as 10.0.0.0/24')
      .requiredOption('--region <name>', 'its region')
      .addOption(
        new Option('--role <role>', 'what the network is for')
          .choices(['provisioning', 'customer', 'both'])
          .makeOptionMandatory(),
      )
      .requiredOption('--servers <first-last>', 'addresses for servers', range)
      .option('--reservations <first-last>', 'addresses that known machines boot with', range)
      .option('--leases <first-last>', 'addresses that unknown machines boot with', range)
      .option('--gateway <address>', 'default route of servers')
      .option('--dns <address>', 'name server of servers; up to three times', several),
  ).action(async (cidr: string, options: RemoteOptions & NewSubnet) => {
    const { role, gateway, dns, servers, reservations, leases } = options;
    const { api, answer } = await connect(context, options);
    const region = await idOf(api, 'regions', options.region);
    const body = { cidr, region, role, gateway, dns, servers, reservations, leases };
    const subnet = (await api.post('/subnets', body)) as { id: string };
    answer(subnet, `${subnet.id}\n`);
  });
  asksApi(group.command('list').description('list subnets')).action(async (options: RemoteOptions) => {
    const { api, answer } = await connect(context, options);
    const list = (await api.get('/subnets')) as { subnets: Subnet[] };
    const rows = list.subnets.map(({ cidr, role, region, held, id }) => [cidr, role, region, held, id]);
    answer(list, table(['cidr', 'role', 'region', 'addresses held', 'id'], rows));
  });
}
