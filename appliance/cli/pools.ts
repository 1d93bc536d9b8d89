import type { Command } from 'commander';

import type { CliContext } from './context.ts';
import type { RemoteOptions } from './remote.ts';
import { asksApi, connect } from './remote.ts';
import { table } from './text.ts';

interface Pool {
  readonly region: string;
  readonly flavor: string;
  readonly capacity: number;
  readonly available: number;
  readonly warming: number;
  readonly ready: number;
  readonly target: number;
  readonly why: readonly string[];
}

/** `pools`: how many machines wait for orders, how many should, and why. */
export function poolsCommand(program: Command, context: CliContext): void {
  asksApi(
    program
      .command('pools')
      .description('list the ready pools: how many machines wait for orders, how many should, and why'),
  ).action(async (options: RemoteOptions) => {
    const { api, answer } = await connect(context, options);
    const { pools } = (await api.get('/pools')) as { pools: Pool[] };
    const rows = pools.map(({ region, flavor, capacity, available, warming, ready, target }) => {
      return [region, flavor, ...[ready, target, warming, available, capacity].map(String)];
    });
    const titles = ['region', 'flavor', 'ready', 'target', 'warming', 'available', 'machines'];
    const why = pools.map(({ region, flavor, why: sentences }) => {
      return `\n${region}, ${flavor}:\n${sentences.map((sentence) => `  ${sentence}\n`).join('')}`;
    });
    answer({ pools }, [table(titles, rows), ...why].join(''));
  });
}
