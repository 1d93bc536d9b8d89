import type { EventLog } from '../events/event-log.ts';
import type { Clock } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import { revokeOrders } from '../machines/boot-order.ts';
import type { MachineState } from '../machines/machine-states.ts';
import { moveMachine } from '../machines/machine-states.ts';
import { quarantineMachine } from '../machines/quarantine.ts';
import type { SagaFacts, SagaListener } from '../saga/saga.ts';
import type { Sagas } from '../saga/sagas.ts';
import type { Reason } from '../saga/step.ts';
import type { Tx } from '../store/store.ts';
import type { PoolDriveDeps, PoolParams, PoolSaga } from './pool-sagas.ts';
import { drainSaga, warmSaga } from './pool-sagas.ts';

export interface ReadyPoolDeps {
  readonly events: EventLog;
  readonly clock: Clock;
  readonly sagas: Sagas;
  readonly drive: PoolDriveDeps;
}

/**
 * The machines that wait inside the ramdisk. Each way in and out is a saga, started in the transaction that moves the
 * machine's state; asking for what is so already, or under way, changes nothing.
 */
export class ReadyPool {
  readonly #deps: ReadyPoolDeps;
  readonly #warm: PoolSaga;
  readonly #drain: PoolSaga;

  constructor(deps: ReadyPoolDeps) {
    this.#deps = deps;
    this.#warm = warmSaga(deps.drive);
    this.#drain = drainSaga(deps.drive);
  }

  get definitions(): readonly PoolSaga[] {
    return [this.#warm, this.#drain];
  }

  /** available → warming → ready. Errors: `state.conflict` when the machine is in use, `not-found`. */
  async warmMachine(tx: Tx, machineId: string): Promise<void> {
    const { sagas } = this.#deps;
    if (!(await this.#leave(tx, machineId, { to: 'warming', unless: ['warming', 'ready'] }))) return;
    await sagas.start(tx, this.#warm, { subject: machineId, params: { machineId } });
  }

  /**
   * ready → draining → available; one that is still warming is turned back. What it was told is revoked at once, so that no
   * order reaches it any more. `silent`: because it has stopped asking. `again`: it is warmed anew behind that.
   *
   * Errors: `state.conflict` when somebody holds it or is at work on it, `not-found`.
   */
  async drainMachine(tx: Tx, machineId: string, { again = false, silent = false } = {}): Promise<void> {
    const { sagas, clock } = this.#deps;
    if ((await stateOf(tx, machineId)) === 'warming') {
      await sagas.turnBack(tx, await warmingSaga(tx, machineId), {
        code: 'cancelled',
        message: 'It is to be drained.',
      });
      return;
    }
    if (!(await this.#leave(tx, machineId, { to: 'draining', unless: ['draining', 'available'] }))) return;
    await revokeOrders(tx, machineId, silent ? 'silent' : 'revoked', clock.now());
    const params = { machineId, ...(again && { again }) };
    await sagas.start(tx, this.#drain, { subject: machineId, params });
  }

  get listener(): Partial<SagaListener<PoolParams>> {
    return {
      completed: (tx, facts) => this.#completed(tx, facts),
      undone: (tx, facts, reason) => this.#undone(tx, facts, reason),
      stuck: (tx, facts, _step, error) => this.#setAside(tx, facts, error),
    };
  }

  async #completed(tx: Tx, { name, params: { machineId, again } }: SagaFacts<PoolParams>): Promise<void> {
    const isFit = await this.#move(tx, machineId, name === this.#warm.name ? 'ready' : 'available');
    if (again === true && isFit) await this.warmMachine(tx, machineId);
  }

  /** A machine that was not to be warmed after all is off; that it could not be drained means that it may not be. */
  async #undone(tx: Tx, facts: SagaFacts<PoolParams>, reason: Reason): Promise<void> {
    const { machineId } = facts.params;
    if (facts.name !== this.#warm.name) return this.#setAside(tx, facts, reason);
    // One that was set aside meanwhile stays there.
    const isOff = await this.#move(tx, machineId, 'available');
    if (isOff && reason.code !== 'cancelled') await this.#alert(tx, machineId, reason);
  }

  async #setAside(tx: Tx, { params: { machineId } }: SagaFacts<PoolParams>, reason: Reason): Promise<void> {
    const { events, clock } = this.#deps;
    const aside = { machineId, reason: reason.message, actor: 'saga', at: clock.now() };
    await quarantineMachine(tx, events, aside);
    await this.#alert(tx, machineId, reason);
  }

  #alert(tx: Tx, subject: string, { code, message }: Reason): Promise<void> {
    return this.#deps.events.append(tx, 'alert.raised', {
      key: subject,
      actor: 'saga',
      data: { subject, code, message },
    });
  }

  #move(tx: Tx, machineId: string, to: MachineState): Promise<boolean> {
    const { events, clock } = this.#deps;
    return moveMachine(tx, events, { machineId, to, actor: 'saga', at: clock.now() });
  }

  /** False when it is where it was to go, or on its way: somebody else may have asked in the same moment. */
  async #leave(
    tx: Tx,
    machineId: string,
    { to, unless }: { to: MachineState; unless: readonly MachineState[] },
  ): Promise<boolean> {
    if (unless.includes(await stateOf(tx, machineId))) return false;
    if (await this.#move(tx, machineId, to)) return true;
    const state = await stateOf(tx, machineId);
    if (unless.includes(state)) return false;
    throw new RackstartError('state.conflict', `Machine ${machineId} is ${state}: it can't be ${to} now.`);
  }
}

async function stateOf(tx: Tx, machineId: string): Promise<MachineState> {
  const machine = await tx.selectFrom('machines').select('state').where('id', '=', machineId).executeTakeFirst();
  if (machine !== undefined) return machine.state;
  throw new RackstartError('not-found', `There is no machine ${machineId}.`);
}

async function warmingSaga(tx: Tx, machineId: string): Promise<string> {
  const { id } = await tx
    .selectFrom('sagas')
    .select('id')
    .where('subject', '=', machineId)
    .where('name', '=', 'warm')
    .where('state', 'in', ['running', 'undoing'])
    .executeTakeFirstOrThrow();
  return id;
}
