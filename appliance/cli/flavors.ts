import type { Command } from 'commander';
import { Option } from 'commander';

import { integer } from './arguments.ts';
import type { CliContext } from './context.ts';
import type { RemoteOptions } from './remote.ts';
import { asksApi, connect } from './remote.ts';
import { table } from './text.ts';

interface Shape {
  readonly cores: number;
  readonly memoryMib: number;
  readonly diskGib: number;
  readonly nics: string;
}

interface Flavor extends Shape {
  readonly id: string;
  readonly name: string;
}

export function flavorCommands(program: Command, context: CliContext): void {
  const group = program.command('flavor').description('the shapes that servers are ordered in');
  asksApi(
    group
      .command('add <name>')
      .description('add a flavor')
      .requiredOption('--cores <number>', 'cores, at least', integer)
      .requiredOption('--memory-mib <number>', 'memory in MiB, at least', integer)
      .requiredOption('--disk-gib <number>', 'disk in GiB, at least', integer)
      .addOption(
        new Option('--nics <same|separate>', 'whether provisioning and customer traffic share a NIC')
          .choices(['same', 'separate'])
          .default('same'),
      ),
  ).action(async (name: string, { cores, memoryMib, diskGib, nics, ...options }: RemoteOptions & Shape) => {
    const { api, answer } = await connect(context, options);
    const flavor = (await api.post('/flavors', { name, cores, memoryMib, diskGib, nics })) as { id: string };
    answer(flavor, `${flavor.id}\n`);
  });
  asksApi(group.command('list').description('list flavors')).action(async (options: RemoteOptions) => {
    const { api, answer } = await connect(context, options);
    const list = (await api.get('/flavors')) as { flavors: Flavor[] };
    const rows = list.flavors.map(({ name, cores, memoryMib, diskGib, nics, id }) => {
      return [name, cores, memoryMib, diskGib, nics, id];
    });
    answer(list, table(['name', 'cores', 'memory MiB', 'disk GiB', 'NICs', 'id'], rows));
  });
}
