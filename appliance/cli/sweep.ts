import type { Command } from 'commander';

import type { CliContext } from './context.ts';
import type { RemoteOptions } from './remote.ts';
import { asksApi, connect } from './remote.ts';
import { table } from './text.ts';

interface Orphan {
  readonly provider: string;
  readonly cluster: string | null;
  readonly kind: string;
  readonly name: string;
  readonly madeFor: string;
  readonly foundAt: string;
  readonly removeAt: string;
  readonly failure: { readonly message: string } | null;
}

/** `orphans`: what providers hold and no request owns. */
export function orphansCommand(program: Command, context: CliContext): void {
  asksApi(
    program.command('orphans').description('list what providers hold and no request owns, until it is removed'),
  ).action(async (options: RemoteOptions) => {
    const { api, answer } = await connect(context, options);
    const { orphans } = (await api.get('/orphans')) as { orphans: Orphan[] };
    const rows = orphans.map(({ provider, cluster, kind, name, madeFor, foundAt, removeAt, failure }) => {
      return [provider, cluster, kind, name, madeFor, foundAt, removeAt, failure?.message];
    });
    answer({ orphans }, table(['provider', 'cluster', 'kind', 'id', 'made for', 'found', 'removed', 'failure'], rows));
  });
}
