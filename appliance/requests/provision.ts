import type { EventLog } from '../events/event-log.ts';
import type { Clock } from '../kernel/clock.ts';
import type { Diagnosis } from '../machines/diagnosis/diagnose.ts';
import { quarantineMachine } from '../machines/quarantine.ts';
import type { ProvisionStep, ServerSpec } from '../providers/provider.ts';
import type { Providers } from '../providers/providers.ts';
import { refsIn } from '../saga/resource-plan.ts';
import { resourceStep } from '../saga/resource-step.ts';
import { saga } from '../saga/saga.ts';
import type { SagaDefinition, SagaFacts, SagaListener, StepDone } from '../saga/saga.ts';
import type { Sagas } from '../saga/sagas.ts';
import { reasonIn } from '../saga/step.ts';
import type { Reason } from '../saga/step.ts';
import type { AttemptRow, FlavorRow, RequestRow } from '../store/schema.ts';
import type { Tx } from '../store/store.ts';
import type { QuotaShape } from '../tenants/quota.ts';
import { freeQuota, holdersOf } from '../tenants/quota.ts';
import { causeOf, endAttempt, goesOnWithout, isTenants, moveOn } from './attempts.ts';
import type { MoveOnDeps } from './attempts.ts';
import { attemptsOf, findRequest, lockRequest, moveRequest } from './request-records.ts';
import type { MovedRequest } from './request-records.ts';
import type { RequestState } from './request-states.ts';

export type ProvisionSaga = SagaDefinition<ServerSpec, undefined>;

/** The four steps of every request; its provider says what each is made of. Undone, it is the release. */
export function provisionSaga(providers: Providers): ProvisionSaga {
  const resources = (step: ProvisionStep) =>
    resourceStep(({ params }: { params: ServerSpec }) => providers.of(params).plan(params)[step]);
  return saga<ServerSpec, undefined>('provision', 1)
    .step('allocate', resources('allocate'))
    .step('configure', resources('configure'))
    .step('activate', resources('activate'))
    .step('verify', resources('verify'))
    .build();
}

/** What a request of this flavor counts for, from its admission to its end. */
export function quotaShape(flavor: FlavorRow): QuotaShape {
  return { cores: flavor.cores, memoryMib: flavor.memory_mib, diskGib: flavor.disk_gib };
}

/** Whoever begins an attempt moves its request to `allocating`. */
const stateOfStep: Readonly<Record<string, RequestState>> = {
  configure: 'configuring',
  activate: 'activating',
  verify: 'verifying',
};

type Facts = SagaFacts<ServerSpec>;

export interface ProvisionListenerDeps extends MoveOnDeps {
  readonly providers: Providers;
  readonly clock: Clock;
}

/** What resources turned out to be, by name. */
type Refs = Readonly<Record<string, unknown>>;

/** Keeps the request in step with its saga: each state and its event in the transaction that moves the saga. */
export class ProvisionListener implements SagaListener<ServerSpec> {
  readonly #events: EventLog;
  readonly #sagas: Sagas;
  readonly #providers: Providers;
  readonly #clock: Clock;
  readonly #goOn: MoveOnDeps;

  constructor(deps: ProvisionListenerDeps) {
    this.#events = deps.events;
    this.#sagas = deps.sagas;
    this.#providers = deps.providers;
    this.#clock = deps.clock;
    this.#goOn = deps;
  }

  async stepStarted(tx: Tx, { params }: Facts, step: string): Promise<void> {
    const to = stateOfStep[step];
    if (to !== undefined) await this.#move(tx, params, to);
  }

  async stepDone(tx: Tx, facts: Facts, { name: step, output, startedAt }: StepDone): Promise<void> {
    const data = { ...attemptOf(facts.params), step, startedAt, endedAt: this.#clock.now() };
    await this.#events.append(tx, 'provisioning.step-completed', { ...aboutWork(facts.params), data });
    if (step === 'allocate') await this.#tellAllocated(tx, facts, output as Refs, aboutWork(facts.params));
  }

  async completed(tx: Tx, facts: Facts, outputs: Readonly<Record<string, unknown>>): Promise<void> {
    const { params } = facts;
    const at = this.#clock.now();
    const refs = refsIn(outputs);
    const connection = this.#providers.of(params).connection(refs);
    const set = { connection: JSON.stringify(connection), completed_at: at };
    const moved = await this.#move(tx, params, 'completed', set);
    tx.defer(tx.updateTable('attempts').set({ outcome: 'succeeded' }).where('id', '=', params.attemptId));
    const { requestId, tenantId, hostname } = params;
    const { created_at: startedAt } = moved ?? (await findRequest(tx, requestId));
    if (params.hedges !== undefined) await this.#tellAllocated(tx, facts, refs, about(params));
    await this.#events.append(tx, 'service.activated', {
      ...about(params),
      data: { requestId, tenantId, hostname, addresses: connection.addresses },
    });
    await this.#events.append(tx, 'provisioning.completed', {
      ...about(params),
      data: { ...attemptOf(params), startedAt, endedAt: at },
    });
  }

  async turnedBack(tx: Tx, { params }: Facts, reason: Reason): Promise<void> {
    const request = await lockRequest(tx, params.requestId);
    const isSpare = await goesOnWithout(tx, params);
    if (request.completed_at === null || isSpare) {
      const at = this.#clock.now();
      const { verdict, diagnosis, failure } = await endAttempt(tx, this.#goOn, params, { reason, at });
      const failed = { request, spec: params, reason, verdict, at };
      const goesOn = isSpare || (await moveOn(tx, this.#goOn, failed));
      if (!goesOn && reason.code !== 'cancelled') await this.#fail(tx, params, failure);
      if (diagnosis !== undefined) await this.#tellOperators(tx, params, reason, diagnosis);
      if (goesOn) return;
    }
    await this.#move(tx, params, 'rolling-back');
  }

  /** Operators alone are told what the boot's evidence says: it names what is theirs. */
  async #tellOperators(tx: Tx, { attemptId }: ServerSpec, { code }: Reason, { summary }: Diagnosis): Promise<void> {
    const { machine_id: machineId } = await tx
      .selectFrom('attempts')
      .select('machine_id')
      .where('id', '=', attemptId)
      .executeTakeFirstOrThrow();
    const subject = machineId ?? attemptId;
    await this.#events.append(tx, 'alert.raised', {
      key: subject,
      actor: 'saga',
      data: { subject, code, message: summary },
    });
  }

  async #fail(tx: Tx, params: ServerSpec, reason: Reason): Promise<void> {
    const cause = await causeOf(tx, params.requestId, reason);
    await this.#move(tx, params, 'failed', { failure: JSON.stringify(cause) });
    const { code, message } = cause;
    // A tenant knows nothing of a hedge.
    const data = { ...attemptOf(params), attemptId: params.hedges ?? params.attemptId, code, message };
    await this.#events.append(tx, 'provisioning.failed', { ...about(params), data });
    // Who looks after what it depends on has been told of that.
    if (code === 'request.prerequisite-failed') return;
    const alert = { subject: params.requestId, code, message };
    await this.#events.append(tx, 'alert.raised', { ...about(params), data: alert });
  }

  /** The request ends with the last of its attempts that holds something, in whatever order they are undone. */
  async undone(tx: Tx, { params }: Facts): Promise<void> {
    const { requestId, tenantId } = params;
    const to = this.#clock.now();
    const request = await lockRequest(tx, requestId);
    const ended = await tx
      .updateTable('attempts')
      .set({ ended_at: to })
      .where('id', '=', params.attemptId)
      .where('ended_at', 'is', null)
      .executeTakeFirst();
    const attempts = await attemptsOf(tx, requestId);
    // What was ended before gives nothing back a second time.
    if (ended.numUpdatedRows === 0n || attempts.some(({ ended_at }) => ended_at === null)) return;
    const completed = request.completed_at !== null;
    const moved = await this.#move(tx, params, completed ? 'deprovisioned' : 'rolled-back');
    if (moved === undefined) return;
    await freeQuota(tx, holdersOf(request), quotaShape(params.flavor));
    const reason = await whyEnded(tx, request, attempts);
    const data = { requestId, tenantId, reason, from: request.created_at, to };
    if (completed) {
      await this.#events.append(tx, 'service.deprovisioned', { ...about(params), data });
    } else {
      const held: string[] = [];
      for (const { saga_id, hedges } of attempts) {
        if (hedges !== null) continue;
        const refs = this.#providers.of(params).held(await refsOf(tx, saga_id));
        held.push(...refs.map(({ resource, id: which }) => `${resource} ${which}`));
      }
      await this.#events.append(tx, 'provisioning.rolled-back', { ...about(params), data: { ...data, held } });
    }
  }

  async stuck(tx: Tx, { params }: Facts, _step: string, { code, message }: Reason): Promise<void> {
    const attempt = await tx
      .selectFrom('attempts')
      .select(['machine_id', 'hedges', 'outcome', 'outrun_at'])
      .where('id', '=', params.attemptId)
      .executeTakeFirstOrThrow();
    // What is left of a failed undo is nobody's to use until an operator has looked.
    if (attempt.machine_id !== null) {
      const aside = { machineId: attempt.machine_id, reason: message, actor: 'saga', at: this.#clock.now() };
      await quarantineMachine(tx, this.#events, aside);
    }
    const { tenantId, ...toOperators } = about(params);
    const to = isTenants(attempt) ? { ...toOperators, tenantId } : toOperators;
    await this.#events.append(tx, 'alert.raised', { ...to, data: { subject: params.requestId, code, message } });
  }

  #move(
    tx: Tx,
    { requestId }: ServerSpec,
    to: RequestState,
    set?: Parameters<typeof moveRequest>[2]['set'],
  ): Promise<MovedRequest | undefined> {
    const at = this.#clock.now();
    const deps = { events: this.#events, sagas: this.#sagas };
    return moveRequest(tx, deps, { requestId, to, actor: 'saga', at, ...(set === undefined ? {} : { set }) });
  }

  async #tellAllocated(tx: Tx, { params }: Facts, refs: Refs, to: ReturnType<typeof aboutWork>): Promise<void> {
    for (const held of this.#providers.of(params).held(refs)) {
      const data = { ...attemptOf(params), ...held };
      await this.#events.append(tx, 'resource.allocated', { ...to, data });
    }
  }
}

/** What was told of it when it failed; where somebody asked for its end, the reason that the newest attempt was given. */
async function whyEnded(tx: Tx, { failure }: RequestRow, attempts: readonly AttemptRow[]): Promise<string> {
  const newest = await tx
    .selectFrom('sagas')
    .select('reason')
    .where('id', '=', attempts.findLast(({ outrun_at }) => outrun_at === null)?.saga_id ?? '')
    .executeTakeFirst();
  return reasonIn(failure ?? newest?.reason ?? null)?.message ?? 'It was undone.';
}

function about({ requestId, tenantId }: ServerSpec) {
  return { key: requestId, tenantId, actor: 'saga' };
}

/** A hedge is the operators' business until it has the server: whoever asked for one counts one. */
function aboutWork(spec: ServerSpec) {
  const { key, actor } = about(spec);
  return spec.hedges === undefined ? about(spec) : { key, actor };
}

function attemptOf({ requestId, tenantId, attemptId }: ServerSpec) {
  return { requestId, tenantId, attemptId };
}

/** What the saga's resources turned out to be, by name, released ones included. */
async function refsOf(tx: Tx, sagaId: string): Promise<Refs> {
  const rows = await tx
    .selectFrom('resources')
    .select(['name', 'ref'])
    .where('saga_id', '=', sagaId)
    .where('ref', 'is not', null)
    .execute();
  return Object.fromEntries(rows.map(({ name, ref }) => [name, JSON.parse(ref ?? 'null') as unknown]));
}
