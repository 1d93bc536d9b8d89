import type { Command } from 'commander';

import type { CliContext } from './context.ts';

export function serveCommand(program: Command, { serve }: CliContext): void {
  program
    .command('serve')
    .description('run the appliance until SIGINT or SIGTERM; its log goes to standard error, one JSON object a line')
    .requiredOption('--config <file>', 'YAML configuration')
    .action(({ config }: { config: string }) => serve(config));
}
