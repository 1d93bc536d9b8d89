import type { PipelineSite, ProviderTimes } from './pipeline-site.ts';

/** What the daemons themselves recorded of a completed request; times in ms since the epoch. */
export interface Served {
  readonly tenant: string;
  /** Stamped in the transaction that admits it. */
  readonly createdAt: number;
  /** When its turn came. */
  readonly dispatchedAt: number;
  readonly completedAt: number;
  /** Its four steps. */
  readonly steps: readonly { readonly name: string; readonly startedAt: number; readonly endedAt: number }[];
  /** How long the server took to start once the cluster had accepted that. */
  readonly startMs: number;
}

/** The requests that are completed, those that were admitted first in front. */
export async function served(site: PipelineSite): Promise<Served[]> {
  const rows = await site.query(`
    select r.id, r.tenant_id, r.created_at, r.dispatched_at, r.completed_at, s.name, s.started_at, s.ended_at,
      started.ready_at - started.created_at as start_ms
    from requests r
    join attempts a on a.request_id = r.id
    join saga_steps s on s.saga_id = a.saga_id
    join simulated_resources started on started.kind = 'run' and started.cluster = r.cluster
      and started.name = a.saga_id || '/run'
    where r.completed_at is not null
    order by r.created_at, r.id, s.ordinal`);
  const requests = Map.groupBy(rows, ({ id }) => id);
  return [...requests.values()].map((steps) => {
    const [first = {}] = steps;
    return {
      tenant: String(first['tenant_id']),
      createdAt: Number(first['created_at']),
      dispatchedAt: Number(first['dispatched_at']),
      completedAt: Number(first['completed_at']),
      startMs: Number(first['start_ms']),
      steps: steps.map(({ name, started_at, ended_at }) => {
        return { name: String(name), startedAt: Number(started_at), endedAt: Number(ended_at) };
      }),
    };
  });
}

/** From the admission to the start of the first step. */
export function pickUp({ createdAt, steps }: Served): number {
  return (steps[0]?.startedAt ?? NaN) - createdAt;
}

/** From the admission to the completion, without what the provider took. */
export function overhead(request: Served, times: ProviderTimes): number {
  const inProvider = [...providerTimes(request, times).values()].reduce((sum, one) => sum + one, 0);
  return request.completedAt - request.createdAt - inProvider;
}

/** Where the overhead of a request lies: before its steps, in each, and between and behind them. */
export function overheadByPart(request: Served, times: ProviderTimes): Record<string, number> {
  const inProvider = providerTimes(request, times);
  const steps = request.steps.map(({ name, startedAt, endedAt }) => {
    return [name, endedAt - startedAt - (inProvider.get(name) ?? 0)] as const;
  });
  const inSteps = request.steps.reduce((sum, { startedAt, endedAt }) => sum + endedAt - startedAt, 0);
  const outside = request.completedAt - request.createdAt - inSteps - pickUp(request);
  return { 'pick-up': pickUp(request), ...Object.fromEntries(steps), between: outside };
}

/**
 * What the critical path of each step takes in a cluster of the shape of Proxmox VE (`simulation/shapes.ts`): a machine and
 * then its disk, with the addresses beside; cloud-init and firewall side by side; the start, accepted and then waited for;
 * the probe.
 */
function providerTimes({ startMs }: Served, { call, probe }: ProviderTimes): Map<string, number> {
  return new Map([
    ['allocate', 2 * call],
    ['configure', call],
    ['activate', call + startMs],
    ['verify', probe],
  ]);
}

/** How many of a log are appended in a second, between two moments. */
export async function eventsBetween(site: PipelineSite, from: number, to: number): Promise<number> {
  const [row] = await site.query(
    `select count(*) as count from events where at >= ${String(from)} and at < ${String(to)}`,
  );
  return (Number(row?.['count']) * 1_000) / (to - from);
}
