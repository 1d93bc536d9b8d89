import type { Command } from 'commander';

import { integer } from './arguments.ts';
import type { CliContext } from './context.ts';
import type { RemoteOptions } from './remote.ts';
import { asksApi, connect } from './remote.ts';
import { table } from './text.ts';

interface Entry {
  readonly position: number;
  readonly at: string;
  readonly what: string;
  readonly about: string;
  readonly who: {
    readonly key: string;
    readonly role: string;
    readonly keyName: string | null;
    readonly user: { readonly name: string } | null;
  };
  readonly from: string | null;
}

/** `audit`: who did what, when, from where. */
export function auditCommand(program: Command, context: CliContext): void {
  asksApi(
    program
      .command('audit')
      .description('who did what, when, from where; the oldest first')
      .option('--after <position>', 'go on behind this position', integer, 0)
      .option('--limit <count>', 'at most so many', integer, 100),
  ).action(async ({ after, limit, ...options }: RemoteOptions & { after: number; limit: number }) => {
    const { api, answer } = await connect(context, options);
    const trail = (await api.get(`/audit?after=${String(after)}&limit=${String(limit)}`)) as { entries: Entry[] };
    const rows = trail.entries.map(({ position, at, what, about, who, from }) => {
      return [position, at, who.user?.name ?? who.keyName ?? who.key, who.role, what, about, from];
    });
    answer(trail, table(['position', 'at', 'who', 'role', 'what', 'about', 'from'], rows));
  });
}
