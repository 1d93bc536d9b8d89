import type { Command } from 'commander';

import type { CliContext } from './context.ts';
import type { RemoteOptions } from './remote.ts';
import { asksApi, connect, idOf } from './remote.ts';
import { facts, table } from './text.ts';

interface Placement {
  readonly region: string;
  readonly flavor: string;
  readonly free: number;
  readonly notFree: Readonly<Record<string, number>>;
  readonly filters: readonly {
    readonly filter: string;
    readonly passed: number;
    readonly leftOut: number;
    readonly examples: readonly string[];
  }[];
  readonly emptiedBy: string | null;
  readonly chosen: string | null;
  readonly best: readonly {
    readonly machine: string;
    readonly total: number;
    readonly terms: Readonly<Record<string, number>>;
  }[];
}

interface PlacementOptions extends RemoteOptions {
  readonly region: string;
  readonly flavor: string;
  readonly tenant?: string;
}

/** `placement`: a dry run, which changes nothing. */
export function placementCommand(program: Command, context: CliContext): void {
  asksApi(
    program
      .command('placement')
      .description('which machine an order would be given now, and why not the others; nothing is done')
      .requiredOption('--region <name>')
      .requiredOption('--flavor <name>')
      .option('--tenant <name>', 'whose servers it is kept apart from'),
  ).action(async ({ region, flavor, tenant, ...options }: PlacementOptions) => {
    const { api, answer } = await connect(context, options);
    const query = new URLSearchParams({ region, flavor });
    if (tenant !== undefined) query.set('tenant', await idOf(api, 'tenants', tenant));
    const placement = (await api.get(`/placement?${query.toString()}`)) as Placement;
    answer(placement, placementText(placement));
  });
}

/** What would be taken, what each filter left, and how the best of those compare. */
export function placementText({ free, notFree, filters, emptiedBy, chosen, best }: Placement): string {
  const others = Object.entries(notFree).map(([why, machines]) => `${String(machines)} ${why}`);
  const none = emptiedBy === null ? 'none: no machine is free' : `none: the last were left out as ${emptiedBy}`;
  const summary = facts({ 'would take': chosen ?? none, free, 'not free': others.join(', ') });
  const filterRows = filters.map(({ filter, passed, leftOut, examples }) => {
    const more = leftOut > examples.length ? ' ...' : '';
    return [filter, passed, leftOut, `${examples.join(' ')}${more}`];
  });
  const bestRows = best.map(({ machine, total, terms }) => {
    const speaks = Object.entries(terms).map(([weight, term]) => `${weight} ${amount(term)}`);
    return [machine, amount(total), speaks.join(', ')];
  });
  return [
    summary,
    table(['filter', 'leaves', 'left out', 'such as'], filterRows),
    ...(best.length === 0 ? [] : [table(['machine', 'weighs', 'for'], bestRows)]),
  ].join('\n');
}

function amount(weight: number): string {
  return weight.toFixed(2).replace(/\.00$/, '');
}
