import type { Command } from 'commander';

import type { CliContext } from './context.ts';
import type { RemoteOptions } from './remote.ts';
import { asksApi, connect, idOf } from './remote.ts';
import { table } from './text.ts';

/** Something that is, or was, wrong with a machine. */
export interface Issue {
  readonly type: string;
  readonly severity: string;
  readonly message: string;
  readonly remedy: string;
  readonly raisedAt: string;
  readonly seenAt: string;
  readonly resolvedAt: string | null;
  readonly resolvedBy: string | null;
}

/** `machine issues` and `machine resolve`. */
export function issueCommands(group: Command, context: CliContext): void {
  asksApi(
    group
      .command('issues <machine>')
      .description('list what is wrong with a machine, and what to do about it')
      .option('--all', 'also what was resolved'),
  ).action(async (nameOrId: string, options: RemoteOptions & { all?: boolean }) => {
    const { api, answer } = await connect(context, options);
    const list = (await api.get(`/machines/${await idOf(api, 'machines', nameOrId)}/issues`)) as { issues: Issue[] };
    const issues = list.issues.filter(({ resolvedAt }) => options.all === true || resolvedAt === null);
    answer({ issues }, issueText(issues));
  });
  asksApi(
    group
      .command('resolve <machine> <issue>')
      .description('say that an issue is none any more, such as a disk that was taken out on purpose')
      .requiredOption('--reason <text>', 'kept with the event'),
  ).action(async (nameOrId: string, type: string, options: RemoteOptions & { reason: string }) => {
    const { api, answer } = await connect(context, options);
    const path = `/machines/${await idOf(api, 'machines', nameOrId)}/issues/${encodeURIComponent(type)}/resolve`;
    const list = (await api.post(path, { reason: options.reason })) as { issues: Issue[] };
    const issues = list.issues.filter(({ resolvedAt }) => resolvedAt === null);
    answer({ issues }, issueText(issues));
  });
}

/** A table of issues, and below it what to do about those that are open. */
export function issueText(issues: readonly Issue[]): string {
  const rows = issues.map(({ type, severity, message, raisedAt, seenAt, resolvedAt, resolvedBy }) => {
    return [
      type,
      severity,
      raisedAt,
      seenAt,
      resolvedAt === null ? null : `${resolvedAt} by ${resolvedBy ?? '?'}`,
      message,
    ];
  });
  const remedies = issues
    .filter(({ resolvedAt }) => resolvedAt === null)
    .map(({ type, remedy }) => `${type}: ${remedy}\n`);
  return [
    table(['issue', 'severity', 'raised', 'seen', 'resolved', 'what was found'], rows),
    ...(remedies.length === 0 ? [] : [remedies.join('')]),
  ].join('\n');
}
