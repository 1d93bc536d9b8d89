import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import { join } from 'node:path';
import { CommanderError } from 'commander';
import type { Command } from 'commander';

import type { CliContext } from './context.ts';

const DEMO = join(import.meta.dirname, '../../lab/demo/main.ts');

export function demoCommand(program: Command, { signal }: CliContext): void {
  program
    .command('demo [arguments...]')
    .description('install servers on a virtual rack of this host and show it, as root')
    .helpOption(false)
    .allowUnknownOption()
    .action(async (args: readonly string[]) => {
      const child = spawn(process.execPath, [DEMO, ...args], { stdio: 'inherit' });
      // A terminal's Ctrl-C reaches it by itself; who ends us alone means both. Twice is once: it cleans up and ends.
      signal.addEventListener('abort', () => child.kill('SIGTERM'), { once: true });
      const [code, end] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
      const exitCode = code ?? 128 + (end === null ? 0 : constants.signals[end]);
      if (exitCode !== 0) throw new CommanderError(exitCode, 'demo.failed', '');
    });
}
