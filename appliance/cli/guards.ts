import type { Command } from 'commander';

import type { CliContext } from './context.ts';
import type { RemoteOptions } from './remote.ts';
import { asksApi, connect } from './remote.ts';
import { table } from './text.ts';

interface Guard {
  readonly cluster: string;
  readonly state: string;
  readonly since: string;
  readonly retryAt: string | null;
  readonly inFlight: number;
  readonly waiting: number;
  readonly failures: number;
  readonly refused: number;
}

/** `guards`: which clusters are called, and which are not since they do not answer. */
export function guardsCommand(program: Command, context: CliContext): void {
  asksApi(
    program
      .command('guards')
      .description('list the clusters that are called: whether they answer, and how busy they are'),
  ).action(async (options: RemoteOptions) => {
    const { api, answer } = await connect(context, options);
    const { guards } = (await api.get('/guards')) as { guards: Guard[] };
    const rows = guards.map(({ cluster, state, since, retryAt, inFlight, waiting, failures, refused }) => {
      return [cluster, state, since, retryAt, ...[inFlight, waiting, failures, refused].map(String)];
    });
    const titles = ['cluster', 'circuit', 'since', 'tried again', 'in flight', 'waiting', 'failures', 'refused'];
    answer({ guards }, table(titles, rows));
  });
}
