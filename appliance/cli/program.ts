import { Command } from 'commander';

import type { CliContext } from './context.ts';
import { serveCommand } from './serve.ts';

/** Every command of `rackstart`. `parseAsync` rejects with what went wrong, usage and help included (CommanderError). */
export function createProgram(context: CliContext): Command {
  const program = new Command('rackstart')
    .description('A bare-metal provisioning appliance: from an API call to SSH.')
    .configureOutput({
      writeOut: (text) => void context.stdout.write(text),
      writeErr: (text) => void context.stderr.write(text),
    })
    .showHelpAfterError('(add --help for what there is)')
    .exitOverride();
  serveCommand(program, context);
  return program;
}
