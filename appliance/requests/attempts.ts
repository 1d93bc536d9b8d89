import type { EventLog } from '../events/event-log.ts';
import type { Millis } from '../kernel/clock.ts';
import type { Ids } from '../kernel/ids.ts';
import { blame } from '../machines/blame.ts';
import type { Verdict } from '../machines/blame.ts';
import type { Diagnosis } from '../machines/diagnosis/diagnose.ts';
import { explainFailure } from '../machines/diagnosis/explain.ts';
import { evidenceOf } from '../machines/failure-evidence.ts';
import { raiseIssue } from '../machines/machine-issues.ts';
import type { ServerSpec } from '../providers/provider.ts';
import type { SagaDefinition } from '../saga/saga.ts';
import type { Sagas } from '../saga/sagas.ts';
import { reasonIn } from '../saga/step.ts';
import type { Reason } from '../saga/step.ts';
import type { AttemptRow, RequestRow } from '../store/schema.ts';
import type { Reader, Tx } from '../store/store.ts';
import { attemptsOf, moveRequest } from './request-records.ts';
import { requestStates } from './request-states.ts';

/** On how many machines a request is tried, one after the other, before it is given up. */
const MOST_MACHINES = 3;

export interface NewAttempt {
  readonly number: number;
  readonly spec: ServerSpec;
  /** Whether its saga waits for its turn. */
  readonly asleep: boolean;
  readonly at: Millis;
}

/** An attempt and its saga, in the transaction of whoever takes the order in or goes on with it. */
export async function startAttempt(
  tx: Tx,
  { sagas, provision }: { readonly sagas: Sagas; readonly provision: SagaDefinition<ServerSpec, undefined> },
  { number, spec, asleep, at }: NewAttempt,
): Promise<void> {
  const { attemptId, requestId, tenantId, hedges = null } = spec;
  const sagaId = await sagas.start(tx, provision, { subject: attemptId, tenantId, params: spec, asleep });
  tx.defer(
    tx.insertInto('attempts').values({
      id: attemptId,
      request_id: requestId,
      tenant_id: tenantId,
      number,
      saga_id: sagaId,
      machine_id: null,
      path: 'cold',
      outcome: 'running',
      failure: null,
      hedges,
      created_at: at,
      ended_at: null,
    }),
  );
}

/**
 * Writes down how an attempt ended that had not come to its end, and whose fault that was, where it held a machine. A machine
 * whose own fault it was is set aside when it is given back (`bare-metal/holding.ts`): until then it is held, and nobody's to
 * use.
 */
export async function endAttempt(
  tx: Tx,
  { events, ids }: Pick<MoveOnDeps, 'events' | 'ids'>,
  { attemptId, image }: ServerSpec,
  { reason, at }: { readonly reason: Reason; readonly at: Millis },
): Promise<EndedAttempt> {
  const failed = reason.code !== 'cancelled';
  const diagnosis = failed ? await explainFailure(tx, reason, { attemptId }, at) : undefined;
  const failure = diagnosis === undefined ? reason : { ...reason, details: { ...reason.details, diagnosis } };
  const { machine_id: machineId } = await tx
    .updateTable('attempts')
    .set({ outcome: failed ? 'failed' : 'cancelled', failure: JSON.stringify(failure) })
    .where('id', '=', attemptId)
    .returning('machine_id')
    .executeTakeFirstOrThrow();
  if (!failed || machineId === null) return { failure, diagnosis, verdict: undefined };
  const verdict = blame(await evidenceOf(tx, { attemptId, machineId, imageId: image.id, reason, at }));
  const { party, because } = verdict;
  await tx
    .updateTable('attempts')
    .set({ failed_at: at, blame: party, blame_reason: because })
    .where('id', '=', attemptId)
    .execute();
  if (party === 'machine') {
    const { code, message, step = null, details = {} } = reason;
    const seen = { attemptId, code, message, step, ...details };
    await raiseIssue(tx, events, ids, { machineId, type: 'deploy-failed', message: because, evidence: seen, at });
  }
  return { failure, diagnosis, verdict };
}

export interface EndedAttempt {
  /** As it is kept: with the diagnosis, where a boot failed. */
  readonly failure: Reason;
  readonly diagnosis: Diagnosis | undefined;
  /** Undefined where nobody is to blame: nothing was held, or somebody asked for the end. */
  readonly verdict: Verdict | undefined;
}

export interface MoveOnDeps {
  readonly events: EventLog;
  readonly sagas: Sagas;
  readonly provision: SagaDefinition<ServerSpec, undefined>;
  readonly ids: Ids;
}

export interface Failed {
  readonly request: RequestRow;
  readonly spec: ServerSpec;
  readonly reason: Reason;
  readonly verdict: Verdict | undefined;
  readonly at: Millis;
}

/**
 * Lets a request go on as its next attempt, on a machine that it was not tried on, in the transaction that turns the failed
 * attempt back: that one is undone beside it. False, and nothing was written, when no other machine would do better, none is
 * free, or enough were tried.
 */
export async function moveOn(
  tx: Tx,
  deps: MoveOnDeps,
  { request, spec, reason, verdict, at }: Failed,
): Promise<boolean> {
  if (verdict?.elsewhere !== true || !requestStates[request.state].inFlight) return false;
  const attempts = await attemptsOf(tx, request.id);
  const tried = machinesOf(attempts);
  const inTurn = machinesOf(attempts.filter(({ hedges }) => hedges === null));
  if (inTurn.length >= MOST_MACHINES || !(await isAnotherFree(tx, spec, tried))) return false;
  const { hedges, ...order } = spec;
  const { requestId, tenantId } = order;
  // A tenant knows nothing of a hedge: it is told of the attempt beside which that was tried, which has failed before.
  const from = attempts.find(({ id }) => id === (hedges ?? spec.attemptId));
  const to = deps.ids.next('att');
  const number = attempts.length + 1;
  await startAttempt(tx, deps, { number, spec: { ...order, attemptId: to, avoid: tried }, asleep: false, at });
  const { code, message } = reasonIn(from?.failure ?? null) ?? reason;
  // Why that is thought names what is the operators': it is in the machine's issue.
  const failed = {
    from: from?.id ?? spec.attemptId,
    machineId: from?.machine_id ?? '',
    blame: from?.blame ?? verdict.party,
  };
  const data = { requestId, tenantId, ...failed, to, attempt: number };
  await deps.events.append(tx, 'provisioning.attempt-moved', {
    ...{ key: requestId, tenantId, actor: 'saga' },
    data: { ...data, code, message },
  });
  if (request.state === 'allocating') return true;
  const move = { requestId, from: request.state, to: 'allocating', actor: 'saga', at } as const;
  await moveRequest(tx, deps, move);
  return true;
}

/** Asked before anything is written: else a request would wait for a machine that is not there. What disks and NICs there are, placement asks. */
export async function isAnotherFree(
  read: Reader,
  { regionId, flavor }: ServerSpec,
  tried: readonly string[],
): Promise<boolean> {
  const free = await read
    .selectFrom('machines')
    .innerJoin('racks', 'racks.id', 'machines.rack_id')
    .select('machines.id')
    .where('racks.region_id', '=', regionId)
    .where('machines.state', 'in', ['available', 'ready'])
    .where('machines.disk_state', '=', 'clean')
    .where('machines.cores', '>=', flavor.cores)
    .where('machines.memory_mib', '>=', flavor.memory_mib)
    .where('machines.id', 'not in', tried)
    .limit(1)
    .executeTakeFirst();
  return free !== undefined;
}

/** The machines that attempts were made on, in their order. */
export function machinesOf(attempts: readonly AttemptRow[]): string[] {
  return attempts.flatMap(({ machine_id }) => machine_id ?? []);
}

/** A second machine beside is the operators' business until it has the server, and so is one that was outrun. */
export function isTenants({
  hedges,
  outcome,
  outrun_at,
}: Pick<AttemptRow, 'hedges' | 'outcome' | 'outrun_at'>): boolean {
  return outrun_at === null && (hedges === null || outcome === 'succeeded');
}

/** Whether its request goes on without this attempt: another has the server, or is under way. */
export async function goesOnWithout(read: Reader, { requestId, attemptId }: ServerSpec): Promise<boolean> {
  const attempts = await attemptsOf(read, requestId);
  return attempts.some(({ id, outcome, outrun_at, ended_at }) => {
    if (id === attemptId || outrun_at !== null) return id === attemptId && outrun_at !== null;
    return ended_at === null && (outcome === 'running' || outcome === 'succeeded');
  });
}

/** Why a request has failed: for what its last attempt did that held a machine. One that found none says nothing of that. */
export async function causeOf(read: Reader, requestId: string, reason: Reason): Promise<Reason> {
  const attempts = await attemptsOf(read, requestId);
  const last =
    attempts.at(-1)?.machine_id === null ? attempts.findLast(({ machine_id }) => machine_id !== null) : undefined;
  return reasonIn(last?.failure ?? null) ?? reason;
}
