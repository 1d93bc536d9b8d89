import type { Command } from 'commander';

import type { CliContext } from './context.ts';
import type { RemoteOptions } from './remote.ts';
import { asksApi, connect, idOf } from './remote.ts';
import { table } from './text.ts';

interface Project {
  readonly id: string;
  readonly name: string;
  readonly tenant: string;
  readonly createdAt: string;
}

/** `project add|list|delete`: what a tenant's servers are grouped by. */
export function projectCommands(program: Command, context: CliContext): void {
  const group = program.command('project').description("what a tenant's servers are grouped by");
  asksApi(
    group.command('add <name>').description('add a project').option('--tenant <name>', 'whose; an operator says it'),
  ).action(async (name: string, { tenant, ...options }: RemoteOptions & { tenant?: string }) => {
    const { api, answer } = await connect(context, options);
    const of = tenant === undefined ? undefined : await idOf(api, 'tenants', tenant);
    const project = (await api.post('/projects', { name, tenant: of })) as { id: string };
    answer(project, `${project.id}\n`);
  });
  asksApi(group.command('list').description('list projects')).action(async (options: RemoteOptions) => {
    const { api, answer } = await connect(context, options);
    const list = (await api.get('/projects')) as { projects: Project[] };
    const rows = list.projects.map(({ name, tenant, createdAt, id }) => [name, tenant, createdAt, id]);
    answer(list, table(['name', 'tenant', 'since', 'id'], rows));
  });
  asksApi(group.command('delete <id>').description('delete a project that has no servers')).action(
    async (id: string, options: RemoteOptions) => {
      const { api, answer } = await connect(context, options);
      await api.delete(`/projects/${encodeURIComponent(id)}`);
      answer(null, `${id} is deleted\n`);
    },
  );
}
