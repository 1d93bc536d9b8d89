import { open, rm } from 'node:fs/promises';
import type { Command } from 'commander';

import type { CliContext } from './context.ts';
import { UsageError } from './failure.ts';
import type { RemoteOptions } from './remote.ts';
import { asksApi, connect, idOf } from './remote.ts';
import { table } from './text.ts';

interface Tenant {
  readonly id: string;
  readonly name: string;
  readonly createdAt: string;
}

interface ApiKey {
  readonly id: string;
  readonly name: string;
  readonly role: string;
  readonly tenant: string | null;
  readonly createdAt: string;
  readonly revokedAt: string | null;
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

export function keyCommands(program: Command, context: CliContext): void {
  const group = program.command('key').description('API keys');
  asksApi(
    group
      .command('issue <name>')
      .description("issue a key for a tenant; without --tenant it is an operator's. It is shown once")
      .option('--tenant <name>', 'whose it is')
      .option('--output <file>', 'write the key to a new file that its owner alone may read'),
  ).action(async (name: string, options: RemoteOptions & { tenant?: string; output?: string }) => {
    const { api, answer } = await connect(context, options);
    const tenant = options.tenant === undefined ? undefined : await idOf(api, 'tenants', options.tenant);
    const issue = () => api.post('/api-keys', { name, tenant }) as Promise<{ id: string; key: string }>;
    if (options.output === undefined) {
      const issued = await issue();
      answer(issued, `${issued.key}\n`);
    } else {
      const { id } = await issueTo(options.output, issue);
      answer({ id }, `${id}\n`);
    }
  });
  asksApi(group.command('list').description('list keys, without what is secret of them')).action(
    async (options: RemoteOptions) => {
      const { api, answer } = await connect(context, options);
      const list = (await api.get('/api-keys')) as { keys: ApiKey[] };
      const rows = list.keys.map(({ name, role, tenant, createdAt, revokedAt, id }) => {
        return [name, role, tenant, createdAt, revokedAt, id];
      });
      answer(list, table(['name', 'role', 'tenant', 'since', 'revoked', 'id'], rows));
    },
  );
  asksApi(group.command('revoke <id>').description('revoke a key, for ever')).action(
    async (id: string, options: RemoteOptions) => {
      const { api, answer } = await connect(context, options);
      await api.delete(`/api-keys/${encodeURIComponent(id)}`);
      answer(null, `${id} is revoked\n`);
    },
  );
}

// The file comes first: a key that has no place to go to is not made.
async function issueTo(path: string, issue: () => Promise<{ id: string; key: string }>): Promise<{ id: string }> {
  const file = await newPrivateFile(path);
  try {
    const { id, key } = await issue();
    await file.writeFile(`${key}\n`);
    return { id };
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  } finally {
    await file.close();
  }
}

async function newPrivateFile(path: string) {
  try {
    return await open(path, 'wx', 0o600);
  } catch (cause) {
    throw new UsageError(`${path} can't be made.`, 'Name a file that does not exist, in a directory that does.', cause);
  }
}
