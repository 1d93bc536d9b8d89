import { createWriteStream } from 'node:fs';
import { rename, rm, stat } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Command } from 'commander';

import { integer } from './arguments.ts';
import type { CliContext } from './context.ts';
import type { Diagnosis } from './diagnosis.ts';
import { diagnosisText } from './diagnosis.ts';
import { UsageError } from './failure.ts';
import type { RemoteOptions } from './remote.ts';
import { asksApi, connect, idOf } from './remote.ts';
import type { Timeline } from './server-text.ts';
import { span, timelineText } from './server-text.ts';
import { facts, megabytes, table } from './text.ts';

interface Boot {
  readonly session: string;
  readonly machine: { readonly id: string; readonly name: string; readonly firmware: string | null };
  readonly verb: string;
  readonly generation: number;
  readonly state: string;
  readonly endReason: string | null;
  readonly openedAt: string;
  readonly endedAt: string | null;
}

interface ListOptions extends RemoteOptions {
  readonly server?: string;
  readonly limit?: number;
  readonly before?: number;
}

export function bootCommands(program: Command, context: CliContext): void {
  const group = program.command('boot').description('what machines did when they booted for us; for operators');
  listCommand(group, context);
  showCommand(group, context);
  diagnoseCommand(group, context);
  bundleCommand(group, context);
}

function listCommand(group: Command, context: CliContext): void {
  asksApi(
    group
      .command('list [machine]')
      .description("list a machine's boots, newest first, or those that installed a server")
      .option('--server <id>', 'instead of a machine')
      .option('--limit <number>', 'at most', integer)
      .option('--before <generation>', 'only older ones', integer),
  ).action(async (machine: string | undefined, options: ListOptions) => {
    if ((machine === undefined) === (options.server === undefined)) {
      throw new UsageError('Whose boots?', 'Name a machine, or a server: rackstart boot list --server ID.');
    }
    const { api, answer } = await connect(context, options);
    const path = machine === undefined ? '/boots' : `/machines/${await idOf(api, 'machines', machine)}/boots`;
    const list = (await api.get(`${path}?${pageOf(options)}`)) as { boots: Boot[] };
    const rows = list.boots.map(({ generation, verb, state, openedAt, endedAt, endReason, session }) => {
      return [generation, verb, state, openedAt, span(openedAt, endedAt), session, endReason];
    });
    answer(list, table(['boot', 'ordered', 'state', 'opened', 'time', 'session', 'ended by'], rows));
  });
}

function pageOf({ server, limit, before }: ListOptions): string {
  const page = Object.entries({ server, limit, before }).filter(([, value]) => value !== undefined);
  return new URLSearchParams(page.map(([name, value]): [string, string] => [name, String(value)])).toString();
}

function showCommand(group: Command, context: CliContext): void {
  asksApi(group.command('show <session>').description('show a boot: its stages, and what was seen of it')).action(
    async (session: string, options: RemoteOptions) => {
      const { api, answer } = await connect(context, options);
      const boot = (await api.get(pathOf(session))) as Boot & Timeline;
      answer(boot, `${sheet(boot)}\n${timelineText(boot)}`);
    },
  );
}

function diagnoseCommand(group: Command, context: CliContext): void {
  asksApi(
    group.command('diagnose <session>').description('say why a boot failed, by what was seen of it, and what to do'),
  ).action(async (session: string, options: RemoteOptions) => {
    const { api, answer } = await connect(context, options);
    const diagnosis = (await api.get(`${pathOf(session)}/diagnosis`)) as Diagnosis;
    answer(diagnosis, diagnosisText(diagnosis));
  });
}

function bundleCommand(group: Command, context: CliContext): void {
  asksApi(
    group
      .command('bundle <session>')
      .description('download everything known of a boot, as a .tar.gz without secrets')
      .requiredOption('--output <file>'),
  ).action(async (session: string, { output, ...options }: RemoteOptions & { output: string }) => {
    const { api, answer } = await connect(context, options);
    const content = await api.download(`${pathOf(session)}/bundle`);
    const bytes = await keep(Readable.fromWeb(content), output);
    answer({ file: output, bytes }, `${output}: ${megabytes(bytes)}\n`);
  });
}

/** Whole or not at all. Resolves to its size. */
async function keep(content: Readable, file: string): Promise<number> {
  const partial = `${file}.part`;
  try {
    await pipeline(content, createWriteStream(partial, { mode: 0o600 }));
    await rename(partial, file);
    return (await stat(file)).size;
  } catch (cause) {
    await rm(partial, { force: true });
    throw new UsageError(`${file} can't be written.`, 'Name a file in a directory that exists; try again.', cause);
  }
}

function sheet({ session, machine, verb, generation, state, endReason, ...times }: Boot): string {
  return facts({
    session,
    machine: [machine.name, machine.firmware].filter((part) => part !== null).join(' '),
    ordered: `${verb}, its boot ${String(generation)}`,
    state,
    opened: times.openedAt,
    ended: times.endedAt,
    'ended by': endReason,
  });
}

function pathOf(session: string): string {
  return `/boots/${encodeURIComponent(session)}`;
}
