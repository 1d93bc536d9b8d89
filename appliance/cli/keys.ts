import { open, rm } from 'node:fs/promises';
import type { Command } from 'commander';

import { integer, several } from './arguments.ts';
import type { CliContext } from './context.ts';
import { UsageError } from './failure.ts';
import type { Remote, RemoteOptions } from './remote.ts';
import { asksApi, connect, idOf } from './remote.ts';
import { table } from './text.ts';

interface ApiKey {
  readonly id: string;
  readonly name: string;
  readonly role: string;
  readonly tenant: string | null;
  readonly user: string | null;
  readonly scopes: readonly string[];
  readonly createdAt: string;
  readonly expiresAt: string | null;
  readonly revokedAt: string | null;
}

interface Issued {
  readonly id: string;
  readonly key: string;
}

interface Shown extends RemoteOptions {
  readonly output?: string;
}

interface Asked extends Shown {
  readonly tenant?: string;
  readonly user?: string;
  readonly role?: string;
  readonly scope?: readonly string[];
  readonly expires?: string;
}

/** `key issue|list|rotate|revoke`: what people and programs call with. */
export function keyCommands(program: Command, context: CliContext): void {
  const group = program.command('key').description('API keys');
  asksApi(
    shows(
      group
        .command('issue <name>')
        .description('issue a key; its secret is shown once')
        .option('--tenant <name>', 'for this tenant; without a tenant and a user it is for who works for none')
        .option('--user <name>', 'for this user, with their role')
        .option('--role <role>', 'tenant-admin, member or auditor of the tenant; operator or auditor without one')
        .option(
          '--scope <scope>',
          'what it may be used for; may be given several times (default: all of the role)',
          several,
        )
        .option('--expires <time>', 'ISO 8601, such as 2027-01-31T00:00:00Z'),
    ),
  ).action(async (name: string, { tenant, user, role, scope, expires, ...options }: Asked) => {
    const remote = await connect(context, options);
    const { api } = remote;
    await show(remote, options, async () =>
      api.post('/api-keys', {
        name,
        tenant: tenant === undefined ? undefined : await idOf(api, 'tenants', tenant),
        user: user === undefined ? undefined : await idOf(api, 'users', user),
        role,
        scopes: scope,
        expiresAt: expires,
      }),
    );
  });
  asksApi(group.command('list').description('list keys, without what is secret of them')).action(
    async (options: RemoteOptions) => {
      const { api, answer } = await connect(context, options);
      const list = (await api.get('/api-keys')) as { keys: ApiKey[] };
      const rows = list.keys.map(({ name, role, tenant, user, scopes, createdAt, expiresAt, revokedAt, id }) => {
        return [name, role, tenant, user, scopes.join(' '), createdAt, expiresAt, revokedAt, id];
      });
      const columns = ['name', 'role', 'tenant', 'user', 'scopes', 'since', 'until', 'revoked', 'id'];
      answer(list, table(columns, rows));
    },
  );
  asksApi(
    shows(
      group
        .command('rotate <id>')
        .description('give a key a new secret, which is shown once')
        .option('--overlap <seconds>', 'for how long the secrets before it are valid still', integer, 0),
    ),
  ).action(async (id: string, options: Shown & { overlap: number }) => {
    const remote = await connect(context, options);
    const path = `/api-keys/${encodeURIComponent(id)}/rotate`;
    await show(remote, options, () => remote.api.post(path, { overlapSeconds: options.overlap }));
  });
  asksApi(group.command('revoke <id>').description('revoke a key, for ever')).action(
    async (id: string, options: RemoteOptions) => {
      const { api, answer } = await connect(context, options);
      await api.delete(`/api-keys/${encodeURIComponent(id)}`);
      answer(null, `${id} is revoked\n`);
    },
  );
}

function shows(command: Command): Command {
  return command.option('--output <file>', 'write the secret to a new file that its owner alone may read');
}

async function show({ answer }: Remote, { output }: Shown, make: () => Promise<unknown>): Promise<void> {
  const issue = make as () => Promise<Issued>;
  if (output === undefined) {
    const issued = await issue();
    answer(issued, `${issued.key}\n`);
  } else {
    const { id } = await issueTo(output, issue);
    answer({ id }, `${id}\n`);
  }
}

// The file comes first: a key that has no place to go to is not made.
async function issueTo(path: string, issue: () => Promise<Issued>): Promise<{ id: string }> {
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
