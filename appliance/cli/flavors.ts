import type { Command } from 'commander';
import { Option } from 'commander';
import { parse } from 'yaml';

import { integer } from './arguments.ts';
import type { CliContext } from './context.ts';
import { UsageError } from './failure.ts';
import type { RemoteOptions } from './remote.ts';
import { asksApi, connect, readText } from './remote.ts';
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
      )
      .option('--layout <file>', 'what becomes of the disks (YAML or JSON); default: the image on one disk'),
  ).action(async (name: string, { layout: file, ...options }: RemoteOptions & Shape & { layout?: string }) => {
    const { cores, memoryMib, diskGib, nics } = options;
    const { api, answer } = await connect(context, options);
    const layout = file === undefined ? undefined : layoutIn(await readText(file, 'The layout'), file);
    const flavor = (await api.post('/flavors', { name, cores, memoryMib, diskGib, nics, layout })) as { id: string };
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

/** A layout as the API takes it. */
function layoutIn(text: string, file: string): unknown {
  try {
    return parse(text);
  } catch (cause) {
    throw new UsageError(
      `${file} is neither YAML nor JSON.`,
      'Write it like { data: [{ fs, label, mount, disk }] }.',
      cause,
    );
  }
}
