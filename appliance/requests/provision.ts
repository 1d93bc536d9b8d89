import type { EventLog } from '../events/event-log.ts';
import type { Clock } from '../kernel/clock.ts';
import { quarantineMachine } from '../machines/quarantine.ts';
import type { ProvisionStep, ServerSpec } from '../providers/provider.ts';
import type { Providers } from '../providers/providers.ts';
import { resourceStep } from '../saga/resource-step.ts';
import { saga } from '../saga/saga.ts';
import type { SagaDefinition, SagaFacts, SagaListener } from '../saga/saga.ts';
import type { Sagas } from '../saga/sagas.ts';
import type { Reason } from '../saga/step.ts';
import type { FlavorRow } from '../store/schema.ts';
import type { Tx } from '../store/store.ts';
import type { QuotaShape } from '../tenants/quota.ts';
import { freeQuota, holdersOf } from '../tenants/quota.ts';
import { findRequest, moveRequest } from './request-records.ts';
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

const stateOfStep: Readonly<Record<string, RequestState>> = {
  allocate: 'allocating',
  configure: 'configuring',
  activate: 'activating',
  verify: 'verifying',
};

type Facts = SagaFacts<ServerSpec>;

/** Keeps the request in step with its saga: each state and its event in the transaction that moves the saga. */
export class ProvisionListener implements SagaListener<ServerSpec> {
  readonly #events: EventLog;
  readonly #sagas: Sagas;
  readonly #providers: Providers;
  readonly #clock: Clock;

  constructor(deps: { events: EventLog; sagas: Sagas; providers: Providers; clock: Clock }) {
    this.#events = deps.events;
    this.#sagas = deps.sagas;
    this.#providers = deps.providers;
    this.#clock = deps.clock;
  }

  async stepStarted(tx: Tx, { params }: Facts, step: string): Promise<void> {
    const to = stateOfStep[step];
    if (to !== undefined) await this.#move(tx, params, to);
  }

  async stepDone(tx: Tx, facts: Facts, step: string): Promise<void> {
    const { startedAt } = await tx
      .selectFrom('saga_steps')
      .select('started_at as startedAt')
      .where('saga_id', '=', facts.id)
      .where('name', '=', step)
      .executeTakeFirstOrThrow();
    const data = { ...attemptOf(facts.params), step, startedAt, endedAt: this.#clock.now() };
    await this.#events.append(tx, 'provisioning.step-completed', { ...about(facts.params), data });
    if (step === 'allocate') await this.#tellAllocated(tx, facts);
  }

  async completed(tx: Tx, facts: Facts): Promise<void> {
    const { params } = facts;
    const at = this.#clock.now();
    const connection = this.#providers.of(params).connection(await refsOf(tx, facts.id));
    await this.#move(tx, params, 'completed', { connection: JSON.stringify(connection), completed_at: at });
    await tx.updateTable('attempts').set({ outcome: 'succeeded' }).where('id', '=', params.attemptId).execute();
    const { requestId, tenantId, hostname } = params;
    const { created_at: startedAt } = await findRequest(tx, requestId);
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
    const request = await findRequest(tx, params.requestId);
    if (request.completed_at === null) {
      const failed = reason.code !== 'cancelled';
      const failure = JSON.stringify(reason);
      await tx
        .updateTable('attempts')
        .set({ outcome: failed ? 'failed' : 'cancelled', failure })
        .where('id', '=', params.attemptId)
        .execute();
      if (failed) {
        await this.#move(tx, params, 'failed', { failure });
        const { code, message } = reason;
        const data = { ...attemptOf(params), code, message };
        await this.#events.append(tx, 'provisioning.failed', { ...about(params), data });
        // Who looks after what it depends on has been told of that.
        if (code !== 'request.prerequisite-failed') {
          const alert = { subject: params.requestId, code, message };
          await this.#events.append(tx, 'alert.raised', { ...about(params), data: alert });
        }
      }
    }
    await this.#move(tx, params, 'rolling-back');
  }

  async undone(tx: Tx, { id, params }: Facts, reason: Reason): Promise<void> {
    const { requestId, tenantId } = params;
    const to = this.#clock.now();
    const request = await findRequest(tx, requestId);
    const completed = request.completed_at !== null;
    // The move is refused when it was made before: the quota is given back once.
    const moved = await this.#move(tx, params, completed ? 'deprovisioned' : 'rolled-back');
    if (!moved) return;
    await freeQuota(tx, holdersOf(request), quotaShape(params.flavor));
    await tx.updateTable('attempts').set({ ended_at: to }).where('id', '=', params.attemptId).execute();
    const data = { requestId, tenantId, reason: reason.message, from: request.created_at, to };
    if (completed) {
      await this.#events.append(tx, 'service.deprovisioned', { ...about(params), data });
    } else {
      const held = this.#providers
        .of(params)
        .held(await refsOf(tx, id))
        .map(({ resource, id: which }) => `${resource} ${which}`);
      await this.#events.append(tx, 'provisioning.rolled-back', { ...about(params), data: { ...data, held } });
    }
  }

  async stuck(tx: Tx, { params }: Facts, _step: string, { code, message }: Reason): Promise<void> {
    const subject = params.requestId;
    await this.#setMachineAside(tx, params, message);
    await this.#events.append(tx, 'alert.raised', { ...about(params), data: { subject, code, message } });
  }

  // What is left of a failed undo is nobody's to use until an operator has looked.
  async #setMachineAside(tx: Tx, { attemptId }: ServerSpec, reason: string): Promise<void> {
    const attempt = await tx
      .selectFrom('attempts')
      .select('machine_id')
      .where('id', '=', attemptId)
      .executeTakeFirstOrThrow();
    if (attempt.machine_id === null) return;
    const aside = { machineId: attempt.machine_id, reason, actor: 'saga', at: this.#clock.now() };
    await quarantineMachine(tx, this.#events, aside);
  }

  #move(
    tx: Tx,
    { requestId }: ServerSpec,
    to: RequestState,
    set?: Parameters<typeof moveRequest>[2]['set'],
  ): Promise<boolean> {
    const at = this.#clock.now();
    const deps = { events: this.#events, sagas: this.#sagas };
    return moveRequest(tx, deps, { requestId, to, actor: 'saga', at, ...(set === undefined ? {} : { set }) });
  }

  async #tellAllocated(tx: Tx, { id, params }: Facts): Promise<void> {
    for (const held of this.#providers.of(params).held(await refsOf(tx, id))) {
      const data = { ...attemptOf(params), ...held };
      await this.#events.append(tx, 'resource.allocated', { ...about(params), data });
    }
  }
}

function about({ requestId, tenantId }: ServerSpec) {
  return { key: requestId, tenantId, actor: 'saga' };
}

function attemptOf({ requestId, tenantId, attemptId }: ServerSpec) {
  return { requestId, tenantId, attemptId };
}

/** What the saga's resources turned out to be, by name, released ones included. */
async function refsOf(tx: Tx, sagaId: string): Promise<Record<string, unknown>> {
  const rows = await tx
    .selectFrom('resources')
    .select(['name', 'ref'])
    .where('saga_id', '=', sagaId)
    .where('ref', 'is not', null)
    .execute();
  return Object.fromEntries(rows.map(({ name, ref }) => [name, JSON.parse(ref ?? 'null') as unknown]));
}
