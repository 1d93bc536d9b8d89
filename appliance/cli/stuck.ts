import type { Command } from 'commander';

import type { CliContext } from './context.ts';
import type { RemoteOptions } from './remote.ts';
import { asksApi, connect } from './remote.ts';
import { table } from './text.ts';

interface Stuck {
  readonly id: string;
  readonly saga: string;
  readonly request: string | null;
  readonly machine: string | null;
  readonly step: string;
  readonly message: string;
  readonly since: string;
}

interface Decided extends RemoteOptions {
  readonly reason: string;
}

/** `stuck list|retry|skip`: what could not be undone and waits for a person. */
export function stuckCommands(program: Command, context: CliContext): void {
  const group = program.command('stuck').description('what could not be undone, and waits for you');
  asksApi(group.command('list').description('list it, the oldest first')).action(async (options: RemoteOptions) => {
    const { api, answer } = await connect(context, options);
    const { stuck } = (await api.get('/stuck')) as { stuck: Stuck[] };
    const rows = stuck.map(({ id, saga, request, machine, step, since, message }) => {
      return [id, saga, step, request, machine, since, message];
    });
    answer({ stuck }, table(['id', 'saga', 'step', 'request', 'machine', 'since', 'why'], rows));
  });
  const decide = (action: 'retry' | 'skip', description: string, said: string) =>
    asksApi(
      group
        .command(action)
        .description(description)
        .argument('<id>', 'as `stuck list` tells it')
        .requiredOption('--reason <text>', 'kept with the event'),
    ).action(async (id: string, options: Decided) => {
      const { api, answer } = await connect(context, options);
      await api.post(`/stuck/${id}`, { action, reason: options.reason });
      answer({ id, action }, `${id}: ${said}\n`);
    });
  decide('retry', 'the cause is repaired: run the undo that failed again', 'its undo is run again.');
  decide('skip', 'you take care of what that step has left: go on behind it', 'its undo goes on behind that step.');
}
