import type { Command } from 'commander';

import type { CliContext } from './context.ts';
import type { RemoteOptions } from './remote.ts';
import { asksApi, connect, idOf } from './remote.ts';
import { facts, table } from './text.ts';

interface User {
  readonly id: string;
  readonly name: string;
  readonly role: string;
  readonly tenant: string | null;
  readonly email: string | null;
  readonly disabledAt: string | null;
}

interface NewUser extends RemoteOptions {
  readonly role: string;
  readonly tenant?: string;
  readonly email?: string;
}

/** `user add|list|show|disable`: people, whom keys are issued for. */
export function userCommands(program: Command, context: CliContext): void {
  const group = program.command('user').description('people, whom API keys are issued for');
  asksApi(
    group
      .command('add <name>')
      .description('add a user')
      .requiredOption('--role <role>', 'tenant-admin, member or auditor of a tenant; operator or auditor of none')
      .option('--tenant <name>', 'whose user it is')
      .option('--email <address>'),
  ).action(async (name: string, { role, tenant, email, ...options }: NewUser) => {
    const { api, answer } = await connect(context, options);
    const of = tenant === undefined ? undefined : await idOf(api, 'tenants', tenant);
    const user = (await api.post('/users', { name, role, tenant: of, email })) as { id: string };
    answer(user, `${user.id}\n`);
  });
  asksApi(group.command('list').description('list users')).action(async (options: RemoteOptions) => {
    const { api, answer } = await connect(context, options);
    const list = (await api.get('/users')) as { users: User[] };
    const rows = list.users.map(({ name, role, tenant, email, disabledAt, id }) => {
      return [name, role, tenant, email, disabledAt, id];
    });
    answer(list, table(['name', 'role', 'tenant', 'email', 'disabled', 'id'], rows));
  });
  asksApi(group.command('show <name>').description('show a user, by name or id')).action(
    async (name: string, options: RemoteOptions) => {
      const { api, answer } = await connect(context, options);
      const user = (await api.get(`/users/${await idOf(api, 'users', name)}`)) as User;
      answer(user, facts({ ...user }));
    },
  );
  asksApi(group.command('disable <name>').description('disable a user: none of its keys is valid any more')).action(
    async (name: string, options: RemoteOptions) => {
      const { api, answer } = await connect(context, options);
      const user = (await api.act(`/users/${await idOf(api, 'users', name)}/disable`)) as User;
      answer(user, `${user.id} is disabled\n`);
    },
  );
}
