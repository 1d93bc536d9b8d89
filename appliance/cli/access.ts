import type { Command } from 'commander';

import { several } from './arguments.ts';
import type { CliContext } from './context.ts';
import type { RemoteOptions } from './remote.ts';
import { asksApi, connect } from './remote.ts';
import { table } from './text.ts';

interface Asked {
  readonly id: string;
  readonly tenant: string;
  readonly server: string;
  readonly hostname: string;
  readonly region: string;
  readonly flavor: { readonly name: string };
  readonly image: string;
  readonly askedAt: string;
}

interface EnterOptions extends RemoteOptions {
  readonly address: readonly string[];
  readonly user: string;
  readonly hostKey?: string;
  readonly verify: boolean;
}

/** `access list|enter`: servers of the provider `manual`, which a person makes. */
export function accessCommands(program: Command, context: CliContext): void {
  const group = program.command('access').description('servers that are made by hand: how they are reached');
  asksApi(group.command('list').description('list those that wait for you, the oldest first')).action(
    async (options: RemoteOptions) => {
      const { api, answer } = await connect(context, options);
      const { entries } = (await api.get('/access-entries')) as { entries: Asked[] };
      const rows = entries.map(({ id, server, hostname, tenant, region, flavor, image, askedAt }) => {
        return [id, server, hostname, tenant, region, flavor.name, image, askedAt];
      });
      const titles = ['id', 'server', 'hostname', 'tenant', 'region', 'flavor', 'image', 'asked'];
      answer({ entries }, table(titles, rows));
    },
  );
  asksApi(
    group
      .command('enter')
      .description(
        "say how a server is reached; the tenant's SSH keys must let in there (`access list --json` has them)",
      )
      .argument('<id>', 'as `access list` tells it')
      .requiredOption(
        '--address <address>',
        'IPv4 or IPv6, may be given several times; SSH is tried at the first',
        several,
      )
      .option('--user <name>', 'whom the keys let in', 'root')
      .option('--host-key <key>', "the server's own: ssh-ed25519 AAAA…")
      .option('--no-verify', 'it cannot be reached from the appliance: take your word'),
  ).action(async (id: string, { address, user, hostKey, verify, ...options }: EnterOptions) => {
    const { api, answer } = await connect(context, options);
    const details = { username: user, addresses: address, verify, ...(hostKey !== undefined && { hostKey }) };
    const entered = await api.post(`/access-entries/${id}`, details);
    answer(entered, `${id}: ${verify ? 'its login is being verified.' : 'taken on your word.'}\n`);
  });
}
