import { RackstartError } from '../kernel/errors.ts';
import { SECOND } from '../kernel/clock.ts';
import type { Pipeline } from './pipeline.fixture.ts';
import { attemptsOf, findRequest } from './request-records.ts';

/** What deploys before took, where a test says nothing else. */
export const USUAL = 20 * SECOND;

/** So many deploys on such machines as the rack's are known, as if a server long gone had been made so often. */
export async function measured(
  { store, clock }: Pipeline,
  requestId: string,
  { deploys = 20, usual = USUAL } = {},
): Promise<void> {
  const at = clock.now();
  const gone = { state: 'deprovisioned', completed_at: at, ended_at: at } as const;
  const request = { ...(await findRequest(store.read, requestId)), id: 'srv_gone', ...gone };
  const [attempt] = await attemptsOf(store.read, requestId);
  if (attempt === undefined) throw new Error(`request ${requestId} has no attempt`);
  await store.transaction(async (tx) => {
    await tx.insertInto('requests').values(request).execute();
    for (let number = 1; number <= deploys; number += 1) {
      const id = `att_gone_${String(number)}`;
      const ended = { outcome: 'succeeded', ended_at: at, machine_id: null } as const;
      const own = { id, saga_id: id, request_id: request.id, number };
      await tx
        .insertInto('attempts')
        .values({ ...attempt, ...own, ...ended })
        .execute();
      const on = { model: 'D1', firmware: 'uefi', path: 'cold', region_id: request.region_id } as const;
      const total = { attempt_id: id, tenant_id: request.tenant_id, stage: 'total', milliseconds: usual, ended_at: at };
      await tx
        .insertInto('deploy_stages')
        .values({ ...on, ...total })
        .execute();
    }
  });
}

/** So many hedges of the request's first attempt have found no machine. */
export async function hedgedInVain({ store, clock }: Pipeline, requestId: string, hedges: number): Promise<void> {
  const [first] = await attemptsOf(store.read, requestId);
  if (first === undefined) throw new Error(`request ${requestId} has no attempt`);
  const ended = { outcome: 'failed', machine_id: null, hedges: first.id, ended_at: clock.now() } as const;
  const rows = Array.from({ length: hedges }, (_, index) => {
    const id = `att_vain_${String(index)}`;
    return { ...first, ...ended, id, saga_id: id, number: 2 + index };
  });
  await store.transaction((tx) => tx.insertInto('attempts').values(rows).execute());
}

/** Lets time pass as the daemon sees it, which looks for slow requests every five seconds, until the condition holds. */
export async function looking(pipeline: Pipeline, what: string, condition: () => Promise<boolean>): Promise<void> {
  const { clock } = pipeline;
  const over = new AbortController();
  await pipeline.until(what, async () => {
    await pipeline.lookForSlow();
    if (pipeline.daemon.process.isDead() || (await condition())) return true;
    clock.sleepUntil(clock.now() + 5 * SECOND, over.signal).catch(() => undefined);
    return false;
  });
  over.abort();
}

/** SSH does not answer yet on the machines of these indexes. */
export function deaf(pipeline: Pipeline, ...indexes: number[]): void {
  pipeline.atProbe = (target) => {
    if (!indexes.some((index) => pipeline.rack[index]?.system?.address === target.host)) return target;
    throw new RackstartError('ssh.unreachable', 'Nothing listens there.');
  };
}

/** Whether this many attempts of the request have come as far as the proof by SSH. */
export async function verifying({ store }: Pipeline, requestId: string, attempts: number): Promise<boolean> {
  const rows = await store.read
    .selectFrom('attempts')
    .innerJoin('saga_steps', 'saga_steps.saga_id', 'attempts.saga_id')
    .select('attempts.id')
    .where('attempts.request_id', '=', requestId)
    .where('saga_steps.name', '=', 'verify')
    .where('saga_steps.state', '=', 'waiting')
    .execute();
  return rows.length === attempts;
}
