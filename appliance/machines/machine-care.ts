import type { EventLog } from '../events/event-log.ts';
import type { Clock } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Ids } from '../kernel/ids.ts';
import type { SagaFacts, SagaListener, StepDone } from '../saga/saga.ts';
import type { Sagas } from '../saga/sagas.ts';
import type { Reason } from '../saga/step.ts';
import type { Tx } from '../store/store.ts';
import type { CareDeps, CareParams, CareSaga, CareVerb } from './care-sagas.ts';
import { careSagas } from './care-sagas.ts';
import { explainFailure } from './diagnosis/explain.ts';
import { openIssues, raiseIssue } from './machine-issues.ts';
import type { MachineState } from './machine-states.ts';
import { moveMachine } from './machine-states.ts';
import { quarantineMachine } from './quarantine.ts';

/** Starts what machines need between tenants, and moves their states along with it. */
export class MachineCare {
  readonly #events: EventLog;
  readonly #clock: Clock;
  readonly #ids: Ids;
  readonly #sagas: Sagas;
  readonly #definitions: Readonly<Record<CareVerb, CareSaga>>;

  constructor(deps: { events: EventLog; clock: Clock; sagas: Sagas; drive: CareDeps }) {
    this.#events = deps.events;
    this.#clock = deps.clock;
    this.#ids = deps.drive.ids;
    this.#sagas = deps.sagas;
    this.#definitions = careSagas(deps.drive);
  }

  get definitions(): readonly CareSaga[] {
    return Object.values(this.#definitions);
  }

  /** Errors: `state.conflict` when the machine is not idle. */
  async startInspection(tx: Tx, machineId: string): Promise<string> {
    await this.#move(tx, machineId, 'inspecting', 'saga');
    return this.#start(tx, machineId, 'inspect');
  }

  /** Errors: `state.conflict` when the machine is not to be released. */
  async startWipe(tx: Tx, machineId: string): Promise<string> {
    await this.#move(tx, machineId, 'releasing', 'saga');
    return this.#start(tx, machineId, 'wipe');
  }

  /**
   * On an operator's word: it serves again once its disk is proven clean and a check has found nothing critical. Errors:
   * `state.conflict` when the machine is not quarantined.
   */
  async startReadmission(tx: Tx, machineId: string, actor: string): Promise<string> {
    const { state, disk_state } = await tx
      .selectFrom('machines')
      .select(['state', 'disk_state'])
      .where('id', '=', machineId)
      .executeTakeFirstOrThrow();
    if (state !== 'quarantined') {
      throw new RackstartError('state.conflict', `Machine ${machineId} is not quarantined.`);
    }
    const through = disk_state === 'dirty' ? (['releasing'] as const) : (['enrolled', 'inspecting'] as const);
    for (const next of through) await this.#move(tx, machineId, next, actor);
    return this.#start(tx, machineId, 'readmit');
  }

  /** A machine that fails its inspection or wipe is quarantined: it never comes back to the pool by itself. */
  get listener(): SagaListener<CareParams> {
    const nothing = () => Promise.resolve();
    return {
      stepStarted: nothing,
      stepDone: (tx, facts, step) => this.#stepDone(tx, facts, step),
      turnedBack: nothing,
      completed: (tx, facts) => this.#completed(tx, facts),
      undone: (tx, facts, reason) => this.#quarantine(tx, facts, reason),
      stuck: (tx, facts, _step, error) => this.#quarantine(tx, facts, error),
    };
  }

  async #move(tx: Tx, machineId: string, to: MachineState, actor: string): Promise<void> {
    if (await moveMachine(tx, this.#events, { machineId, to, actor, at: this.#clock.now() })) return;
    throw new RackstartError('state.conflict', `Machine ${machineId} is in no state to be ${to}.`);
  }

  #start(tx: Tx, machineId: string, verb: CareVerb): Promise<string> {
    return this.#sagas.start(tx, this.#definitions[verb], { subject: machineId, params: { machineId } });
  }

  async #stepDone(tx: Tx, { name, params: { machineId } }: SagaFacts<CareParams>, step: StepDone): Promise<void> {
    if (name === 'readmit' && step.name === 'wipe') await markDiskClean(tx, machineId);
  }

  async #completed(tx: Tx, { name, params: { machineId } }: SagaFacts<CareParams>): Promise<void> {
    const at = this.#clock.now();
    if (name === 'wipe') await markDiskClean(tx, machineId);
    await moveMachine(tx, this.#events, { machineId, to: 'available', actor: 'saga', at });
  }

  async #quarantine(tx: Tx, { params: { machineId } }: SagaFacts<CareParams>, reason: Reason): Promise<void> {
    const at = this.#clock.now();
    await this.#tellUnwiped(tx, machineId, reason);
    const { code } = reason;
    const why = await explainFailure(tx, reason, { machineId }, at);
    const message = why === undefined ? reason.message : `${reason.message} ${why.summary}`;
    await quarantineMachine(tx, this.#events, { machineId, reason: message, actor: 'saga', at });
    const data = { subject: machineId, code, message };
    await this.#events.append(tx, 'alert.raised', { key: machineId, actor: 'saga', data });
  }

  /** A wipe that ended before any disk had failed is as loud as one that found a disk that does. */
  async #tellUnwiped(tx: Tx, machineId: string, { code, message }: Reason): Promise<void> {
    const { disk_state } = await tx
      .selectFrom('machines')
      .select('disk_state')
      .where('id', '=', machineId)
      .executeTakeFirstOrThrow();
    const open = await openIssues(tx, machineId);
    if (disk_state === 'clean' || open.some(({ type }) => type === 'wipe-failed')) return;
    const found = { machineId, type: 'wipe-failed', message, evidence: { code }, at: this.#clock.now() } as const;
    await raiseIssue(tx, this.#events, this.#ids, found);
  }
}

async function markDiskClean(tx: Tx, machineId: string): Promise<void> {
  await tx.updateTable('machines').set({ disk_state: 'clean' }).where('id', '=', machineId).execute();
}
