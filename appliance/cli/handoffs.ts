import type { Command } from 'commander';
import { Argument, Option } from 'commander';

import type { CliContext } from './context.ts';
import type { RemoteOptions } from './remote.ts';
import { asksApi, connect } from './remote.ts';
import { table } from './text.ts';

interface Known {
  readonly model: string;
  readonly firmware: string;
  readonly handoff: string;
  readonly failures: number;
  readonly successes: number;
  readonly since: string;
  readonly setBy: string;
}

/** `handoffs list|set`: how new servers are started on each hardware model. */
export function handoffCommands(program: Command, context: CliContext): void {
  const group = program.command('handoffs').description('how new servers are started on each hardware model');
  asksApi(group.command('list').description('list the models that are known')).action(
    async (options: RemoteOptions) => {
      const { api, answer } = await connect(context, options);
      const known = (await api.get('/handoffs')) as { handoffs: Known[] };
      answer(known, text(known.handoffs));
    },
  );
  asksApi(
    group
      .command('set')
      .description('start its servers by kexec, or by a reset')
      .argument('<model>', 'as `machine show` tells it')
      .addArgument(new Argument('<handoff>', 'how').choices(['kexec', 'reset']))
      .addOption(
        new Option('--firmware <firmware>', 'of such machines').choices(['bios', 'uefi']).makeOptionMandatory(),
      ),
  ).action(async (model: string, handoff: string, { firmware, ...options }: RemoteOptions & { firmware: string }) => {
    const { api, answer } = await connect(context, options);
    const known = (await api.post('/handoffs', { model, firmware, handoff })) as { handoffs: Known[] };
    answer(known, text(known.handoffs));
  });
}

function text(handoffs: readonly Known[]): string {
  const rows = handoffs.map(({ model, firmware, handoff, failures, successes, since, setBy }) => {
    return [model, firmware, handoff, failures, successes, since, setBy];
  });
  return table(['model', 'firmware', 'started by', 'kexec failed in a row', 'kexec worked', 'since', 'set by'], rows);
}
