import type { Command } from 'commander';

import { integer } from './arguments.ts';
import type { CliContext } from './context.ts';
import { UsageError } from './failure.ts';
import type { ImageImport } from './follow-import.ts';
import { followImport } from './follow-import.ts';
import { Progress } from './progress.ts';
import type { RemoteOptions } from './remote.ts';
import { asksApi, connect } from './remote.ts';
import { share } from './meter.ts';
import { table } from './text.ts';

/** What is declared of an image file, as options. */
export interface Declared extends RemoteOptions {
  readonly name: string;
  readonly version: string;
  readonly format?: string;
  readonly rootPartition?: number;
  readonly kernelArgs?: string;
}

/** Adds the options of `Declared`. */
export function declares(command: Command): Command {
  return asksApi(
    command
      .requiredOption('--name <name>')
      .requiredOption('--version <version>')
      .option('--format <format>', 'raw, qcow2, vmdk, vhdx or raw+zstd (default: by the name of the file)')
      .option('--root-partition <number>', 'with the root file system, when several could be', integer)
      .option('--kernel-args <text>', 'for its kernel, beside root='),
  );
}

const FORMATS: Readonly<Record<string, string>> = {
  raw: 'raw',
  qcow2: 'qcow2',
  vmdk: 'vmdk',
  vhdx: 'vhdx',
  zst: 'raw+zstd',
};

/** What the API is told; the appliance holds the file against it. Errors: `UsageError` when its name does not say the format. */
export function declarationOf({ name, version, rootPartition, kernelArgs, ...options }: Declared, file: string) {
  const extension = /\.([a-z0-9]+)$/i.exec(file)?.[1]?.toLowerCase() ?? '';
  const format = options.format ?? FORMATS[extension];
  if (format === undefined) {
    throw new UsageError(
      `The name ${file} does not say what format it is in.`,
      'Say it: --format raw, qcow2, vmdk, vhdx or raw+zstd.',
    );
  }
  return {
    name,
    version,
    format,
    ...(rootPartition !== undefined && { rootPartition }),
    ...(kernelArgs && { kernelArgs }),
  };
}

/** `image import|imports|cancel`. */
export function imageImportCommands(group: Command, context: CliContext): void {
  declares(
    group
      .command('import <url>')
      .description('have the appliance fetch an image by https, from a host that its configuration lists')
      .requiredOption('--sha256 <hex>', 'of the file'),
  ).action(async (url: string, options: Declared & { sha256: string }) => {
    const { api, answer } = await connect(context, options);
    const { pathname = url } = URL.parse(url) ?? {};
    const body = { url, sha256: options.sha256, ...declarationOf(options, pathname) };
    const begun = (await api.post('/images/imports', body)) as { import: string };
    const progress = new Progress(context);
    try {
      const image = await followImport(context, api, progress, begun.import);
      answer(image, `${image.id}\n`);
    } finally {
      progress.end();
    }
  });

  asksApi(group.command('imports').description('list image imports, the newest first'))
    .option('--limit <number>', 'at most so many', integer, 20)
    .action(async (options: RemoteOptions & { limit: number }) => {
      const { api, answer } = await connect(context, options);
      const list = (await api.get(`/images/imports?limit=${String(options.limit)}`)) as { imports: ImageImport[] };
      const rows = list.imports.map(({ id, name, version, state, stage, done, total, startedAt, error }) => {
        const far = total === null || total === 0 ? stage : `${stage ?? ''} ${share(done, total)} %`;
        return [id, name, version, state, far, startedAt, error?.message];
      });
      answer(list, table(['id', 'name', 'version', 'state', 'stage', 'since', 'why'], rows));
    });

  asksApi(
    group
      .command('cancel')
      .description('give up an upload or import that is under way; nothing stays of it')
      .argument('<id>', 'as `image uploads` and `image imports` tell it'),
  ).action(async (id: string, options: RemoteOptions) => {
    const { api, answer } = await connect(context, options);
    await api.delete(`/images/${id.startsWith('upl_') ? 'uploads' : 'imports'}/${encodeURIComponent(id)}`);
    answer({ id }, `${id} is given up\n`);
  });
}
