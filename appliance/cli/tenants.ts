import type { Command } from 'commander';

import type { CliContext } from './context.ts';
import type { RemoteOptions } from './remote.ts';
import { asksApi, connect } from './remote.ts';
import { table } from './text.ts';

interface Tenant {
  readonly id: string;
  readonly name: string;
  readonly createdAt: string;
}

export function tenantCommands(program: Command, context: CliContext): void {
  const group = program.command('tenant').description('who servers are for');
  asksApi(group.command('add <name>').description('add a tenant, with the default quota')).action(
    async (name: string, options: RemoteOptions) => {
      const { api, answer } = await connect(context, options);
      const tenant = (await api.post('/tenants', { name })) as { id: string };
      answer(tenant, `${tenant.id}\n`);
    },
  );
  asksApi(group.command('list').description('list tenants')).action(async (options: RemoteOptions) => {
    const { api, answer } = await connect(context, options);
    const list = (await api.get('/tenants')) as { tenants: Tenant[] };
    answer(
      list,
      table(
        ['name', 'since', 'id'],
        list.tenants.map(({ name, createdAt, id }) => [name, createdAt, id]),
      ),
    );
  });
}
