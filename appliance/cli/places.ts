import type { Command } from 'commander';

import type { CliContext } from './context.ts';
import type { RemoteOptions } from './remote.ts';
import { asksApi, connect, idOf } from './remote.ts';
import { table } from './text.ts';

interface Region {
  readonly id: string;
  readonly name: string;
}

interface Rack extends Region {
  readonly region: string;
  readonly powerFeed: string | null;
}

export function placeCommands(program: Command, context: CliContext): void {
  regionCommands(program.command('region').description('places with networks of their own'), context);
  rackCommands(program.command('rack').description('where machines stand'), context);
}

function regionCommands(group: Command, context: CliContext): void {
  asksApi(group.command('add <name>').description('add a region')).action(
    async (name: string, options: RemoteOptions) => {
      const { api, answer } = await connect(context, options);
      const region = (await api.post('/regions', { name })) as { id: string };
      answer(region, `${region.id}\n`);
    },
  );
  asksApi(group.command('list').description('list regions')).action(async (options: RemoteOptions) => {
    const { api, answer } = await connect(context, options);
    const list = (await api.get('/regions')) as { regions: Region[] };
    answer(
      list,
      table(
        ['name', 'id'],
        list.regions.map(({ name, id }) => [name, id]),
      ),
    );
  });
}

function rackCommands(group: Command, context: CliContext): void {
  asksApi(
    group
      .command('add <name>')
      .description('add a rack')
      .requiredOption('--region <name>', 'its region')
      .option('--power-feed <name>', 'what it has its power from'),
  ).action(
    async (name: string, { region, powerFeed, ...options }: RemoteOptions & { region: string; powerFeed?: string }) => {
      const { api, answer } = await connect(context, options);
      const body = { name, region: await idOf(api, 'regions', region), ...(powerFeed !== undefined && { powerFeed }) };
      const rack = (await api.post('/racks', body)) as { id: string };
      answer(rack, `${rack.id}\n`);
    },
  );
  asksApi(group.command('list').description('list racks')).action(async (options: RemoteOptions) => {
    const { api, answer } = await connect(context, options);
    const list = (await api.get('/racks')) as { racks: Rack[] };
    answer(
      list,
      table(
        ['name', 'region', 'power feed', 'id'],
        list.racks.map(({ name, region, powerFeed, id }) => [name, region, powerFeed, id]),
      ),
    );
  });
}
