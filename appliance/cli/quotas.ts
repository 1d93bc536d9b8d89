import { Argument } from 'commander';
import type { Command } from 'commander';

import { integer } from './arguments.ts';
import type { ApiClient } from './client.ts';
import type { CliContext } from './context.ts';
import { UsageError } from './failure.ts';
import type { RemoteOptions } from './remote.ts';
import { asksApi, connect } from './remote.ts';
import { table } from './text.ts';

const measures = ['servers', 'cores', 'memoryMib', 'diskGib'] as const;

type Figures = Readonly<Record<(typeof measures)[number], number>>;

interface Quota {
  readonly kind: string;
  readonly id: string;
  readonly name: string;
  readonly tenant: string;
  readonly limits: Figures;
  readonly used: Figures;
}

interface QuotaRequest {
  readonly id: string;
  readonly kind: string;
  readonly name: string;
  readonly asked: Partial<Figures>;
  readonly reason: string;
  readonly state: string;
  readonly decision: string | null;
  readonly createdAt: string;
}

interface WithLimits extends RemoteOptions, Partial<Figures> {
  readonly reason: string;
}

/** `quota list|show|set|ask|requests|approve|deny`: how much tenants, projects and users may hold. */
export function quotaCommands(program: Command, context: CliContext): void {
  const group = program.command('quota').description('how much tenants, projects and users may hold');
  asksApi(
    group
      .command('list')
      .description('list quotas and what is used of them')
      .option('--tenant <name>', 'of this tenant, its projects and users, by its name or id'),
  ).action(async (options: RemoteOptions & { tenant?: string }) => {
    const { api, answer } = await connect(context, options);
    const all = await listQuotas(api);
    const tenant = options.tenant === undefined ? undefined : holderIn(all, 'tenant', options.tenant).id;
    const quotas = all.filter((quota) => tenant === undefined || quota.tenant === tenant);
    answer({ quotas }, quotaTable(quotas));
  });
  asksApi(ofHolder(group.command('show').description('show a quota and what is used of it'))).action(
    async (kind: string, holder: string, options: RemoteOptions) => {
      const { api, answer } = await connect(context, options);
      const quota = holderIn(await listQuotas(api), kind, holder);
      answer(quota, quotaTable([quota]));
    },
  );
  withLimits(
    ofHolder(
      group.command('set').description('set limits; one below what is used takes nothing away, and admits no more'),
    ),
  ).action(async (kind: string, holder: string, { reason, ...options }: WithLimits) => {
    const { api, answer } = await connect(context, options);
    const { id } = holderIn(await listQuotas(api), kind, holder);
    const quota = (await api.patch(`/quotas/${kind}/${id}`, { ...limitsIn(options), reason })) as Quota;
    answer(quota, quotaTable([quota]));
  });
  withLimits(ofHolder(group.command('ask').description('ask an operator for higher limits'))).action(
    async (kind: string, name: string, { reason, ...options }: WithLimits) => {
      const { api, answer } = await connect(context, options);
      const { id: holder } = holderIn(await listQuotas(api), kind, name);
      const body = { kind, holder, ...limitsIn(options), reason };
      const asked = (await api.post('/quota-requests', body)) as { id: string };
      answer(asked, `${asked.id}\n`);
    },
  );
  asksApi(
    group
      .command('requests')
      .description('list what was asked for, the newest first')
      .addOption(group.createOption('--state <state>').choices(['pending', 'approved', 'denied'])),
  ).action(async ({ state, ...options }: RemoteOptions & { state?: string }) => {
    const { api, answer } = await connect(context, options);
    const query = state === undefined ? '' : `?state=${state}`;
    const { requests } = (await api.get(`/quota-requests${query}`)) as { requests: QuotaRequest[] };
    const rows = requests.map(({ id, kind, name, asked, state, createdAt, reason, decision }) => {
      const wanted = measures.flatMap((measure) => {
        const figure = asked[measure];
        return figure === undefined ? [] : [`${measure} ${String(figure)}`];
      });
      return [id, `${kind} ${name}`, wanted.join(', '), state, createdAt, reason, decision];
    });
    answer({ requests }, table(['id', 'whose', 'asked', 'state', 'since', 'why', 'decision'], rows));
  });
  const decide = (decision: 'approve' | 'deny', description: string, said: string) =>
    asksApi(
      group
        .command(decision)
        .description(description)
        .argument('<id>', 'as `quota requests` tells it')
        .requiredOption('--reason <text>', 'told to who asked'),
    ).action(async (id: string, { reason, ...options }: RemoteOptions & { reason: string }) => {
      const { api, answer } = await connect(context, options);
      answer(await api.post(`/quota-requests/${id}/decision`, { decision, reason }), `${id} is ${said}\n`);
    });
  decide('approve', 'give what was asked for', 'approved, its limits hold from now on');
  decide('deny', 'leave the limits as they are', 'denied');
}

function ofHolder(command: Command): Command {
  return command
    .addArgument(new Argument('<kind>', 'whose quota').choices(['tenant', 'project', 'user']))
    .argument('<name>', 'its name or id');
}

function withLimits(command: Command): Command {
  return asksApi(
    command
      .option('--servers <number>', 'how many servers', integer)
      .option('--cores <number>', 'how many cores they have together', integer)
      .option('--memory-mib <number>', 'how much memory they have together', integer)
      .option('--disk-gib <number>', 'how much disk they have together', integer)
      .requiredOption('--reason <text>', 'kept with it'),
  );
}

function limitsIn(options: Partial<Figures>): Partial<Figures> {
  return Object.fromEntries(measures.map((measure) => [measure, options[measure]]));
}

async function listQuotas(api: ApiClient): Promise<readonly Quota[]> {
  return ((await api.get('/quotas')) as { quotas: Quota[] }).quotas;
}

/** The one that is called so. Names of projects and users repeat among tenants: then an id is needed. */
function holderIn(quotas: readonly Quota[], kind: string, nameOrId: string): Quota {
  const found = quotas.filter((quota) => quota.kind === kind && (quota.id === nameOrId || quota.name === nameOrId));
  const [first, second] = found;
  if (first === undefined)
    throw new UsageError(`There is no ${kind} ${nameOrId}.`, 'rackstart quota list shows what there is.');
  if (second !== undefined) {
    throw new UsageError(`Several tenants have a ${kind} ${nameOrId}.`, 'Say its id: rackstart quota list --json.');
  }
  return first;
}

function quotaTable(quotas: readonly Quota[]): string {
  const rows = quotas.map(({ kind, name, used, limits, id }) => {
    return [
      `${kind} ${name}`,
      ...measures.map((measure) => `${String(used[measure])} of ${String(limits[measure])}`),
      id,
    ];
  });
  return table(['whose', 'servers', 'cores', 'memory MiB', 'disk GiB', 'id'], rows);
}
