import { mkdir } from 'node:fs/promises';
import { CommanderError } from 'commander';
import type { Command } from 'commander';

import { ChunkDirectory } from '../../images/chunk-directory.ts';
import { IMAGE_INVARIANTS, examineImages } from '../../images/image-doctor.ts';
import { createLog } from '../kernel/log.ts';
import { rotateMasterKey } from '../machines/master-key.ts';
import { backup, restore } from '../store/backup.ts';
import { examine, invariantCount } from '../store/doctor.ts';
import { openStore } from '../store/open.ts';
import type { CliContext } from './context.ts';
import { answerTo } from './remote.ts';
import { printable } from './text.ts';

interface DatabaseOptions {
  readonly config: string;
  readonly json?: boolean;
}

/** What is done to the database of a daemon on this host, by its configuration; no daemon need run. */
export function databaseCommands(program: Command, context: CliContext): void {
  local(program.command('doctor').description('check that all is in order: exit code 1 tells that it is not')).action(
    async ({ config, json = false }: DatabaseOptions) => {
      const { store: url, images } = await context.loadConfig(config);
      const store = await openStore({ url, clock: context.clock, log: createLog('warn'), mode: 'read' });
      try {
        const stored = await examineImages(store.read, new ChunkDirectory(images.directory));
        const findings = [...(await examine(store.read)), ...stored];
        const invariants = invariantCount() + IMAGE_INVARIANTS;
        const lines = findings.map(({ invariant, subject }) => `broken: ${invariant}: ${printable(subject)}\n`);
        const text = findings.length === 0 ? `${String(invariants)} invariants hold\n` : lines.join('');
        answerTo(context, json)({ invariants, findings }, text);
        if (findings.length > 0) throw new CommanderError(1, 'doctor.findings', '');
      } finally {
        await store.close();
      }
    },
  );
  local(
    program.command('backup <target>').description('write the database to a new file, while the daemon goes on'),
  ).action(async (target: string, { config, json = false }: DatabaseOptions) => {
    await backup((await context.loadConfig(config)).store, target);
    const note = 'Keep the master key apart from it: without that key no BMC password in it can be read.';
    answerTo(context, json)({ file: target }, `${target} is written. ${note}\n`);
  });
  local(program.command('restore <source>').description('fill an empty database from a backup')).action(
    async (source: string, { config, json = false }: DatabaseOptions) => {
      const { state, store } = await context.loadConfig(config);
      // Often the first thing done on a new host: the daemon has not made its directory yet.
      await mkdir(state, { recursive: true, mode: 0o700 });
      await restore(store, source);
      answerTo(context, json)({ file: source }, `${source} is restored\n`);
    },
  );
  local(
    program
      .command('rotate-master-key')
      .description('seal every secret in the database under a new master key; the daemon must be stopped'),
  ).action(async ({ config, json = false }: DatabaseOptions) => {
    const { store: url, masterKey } = await context.loadConfig(config);
    const store = await openStore({ url, clock: context.clock, log: createLog('warn') });
    try {
      const sealed = await rotateMasterKey(store, masterKey, context.ids);
      const note = `${masterKey} is a new key; ${String(sealed)} secrets are sealed under it. Older backups need the old one.`;
      answerTo(context, json)({ file: masterKey, sealed }, `${note}\n`);
    } finally {
      await store.close();
    }
  });
}

function local(command: Command): Command {
  return command
    .requiredOption('--config <file>', "the daemon's configuration")
    .option('--json', 'print the result for programs');
}
