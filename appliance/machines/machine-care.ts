import type { EventLog } from '../events/event-log.ts';
import type { Clock } from '../kernel/clock.ts';
import { RackstartError, asRackstartError } from '../kernel/errors.ts';
import { saga } from '../saga/saga.ts';
import type { SagaDefinition, SagaFacts, SagaListener } from '../saga/saga.ts';
import type { RetryPolicy } from '../saga/retry.ts';
import type { Sagas } from '../saga/sagas.ts';
import type { Reason, Step } from '../saga/step.ts';
import { done } from '../saga/step.ts';
import type { Reader, Tx } from '../store/store.ts';
import type { BootDriveDeps, Booted } from './boot-drive.ts';
import { driveBoot, stopMachine } from './boot-drive.ts';
import { moveMachine } from './machine-states.ts';
import { quarantineMachine } from './quarantine.ts';

export interface CareParams {
  readonly machineId: string;
}

type CareVerb = 'inspect' | 'wipe';
export type CareSaga = SagaDefinition<CareParams, undefined>;

export interface CareDeps extends BootDriveDeps {
  /** After its last try a machine that can't be switched off is left on, and quarantined. */
  readonly retry: RetryPolicy;
}

/** `inspect` reads a machine's hardware before its first order; `wipe` erases its disks before its next tenant. */
export function careSaga(verb: CareVerb, deps: CareDeps): CareSaga {
  return saga<CareParams, undefined>(verb, 1).step('boot', boot(verb, deps)).step('power-off', powerOff(deps)).build();
}

function boot(verb: CareVerb, deps: CareDeps): Step<{ params: CareParams }, Booted, undefined> {
  return {
    async run({ params: { machineId } }, ctx) {
      const booted = await driveBoot({ machineId, verb }, deps, ctx);
      if (verb === 'inspect' && booted.kind === 'done') await requireInspected(ctx.read, machineId);
      return booted;
    },
    async undo({ params: { machineId } }, _booted, ctx) {
      try {
        await stopMachine(machineId, deps, ctx);
      } catch (error) {
        // The machine is quarantined in any case; a BMC that can't be reached is what the operator will be told.
        // One that was busy for a moment is asked again: else a machine nobody may use would run on.
        if (!asRackstartError(error).code.startsWith('bmc.') || deps.retry(ctx.tries) !== undefined) throw error;
        ctx.log.warn({ machineId, error }, 'machine could not be switched off');
      }
      return done();
    },
  };
}

/** A ramdisk that says `done` and has told nothing has not inspected anything. */
async function requireInspected(read: Reader, machineId: string): Promise<void> {
  const machine = await read.selectFrom('machines').select('cores').where('id', '=', machineId).executeTakeFirst();
  if (machine?.cores != null) return;
  throw new RackstartError('boot.stage-failed', `Machine ${machineId} ended its inspection without telling anything.`);
}

function powerOff(deps: BootDriveDeps): Step<{ params: CareParams }, void, undefined> {
  return {
    async run({ params: { machineId } }, ctx) {
      await stopMachine(machineId, deps, ctx);
      return done();
    },
    undo: { noUndo: 'a machine that is off stays off' },
  };
}

/** Starts what machines need between tenants, and moves their states along with it. */
export class MachineCare {
  readonly #events: EventLog;
  readonly #clock: Clock;
  readonly #sagas: Sagas;
  readonly #definitions: Readonly<Record<CareVerb, CareSaga>>;

  constructor(deps: { events: EventLog; clock: Clock; sagas: Sagas; drive: CareDeps }) {
    this.#events = deps.events;
    this.#clock = deps.clock;
    this.#sagas = deps.sagas;
    this.#definitions = { inspect: careSaga('inspect', deps.drive), wipe: careSaga('wipe', deps.drive) };
  }

  get definitions(): readonly CareSaga[] {
    return Object.values(this.#definitions);
  }

  /** Errors: `state.conflict` when the machine is not idle. */
  startInspection(tx: Tx, machineId: string): Promise<string> {
    return this.#start(tx, machineId, 'inspect', 'inspecting');
  }

  /** Errors: `state.conflict` when the machine is not to be released. */
  startWipe(tx: Tx, machineId: string): Promise<string> {
    return this.#start(tx, machineId, 'wipe', 'releasing');
  }

  /** A machine that fails its inspection or wipe is quarantined: it never comes back to the pool by itself. */
  get listener(): SagaListener<CareParams> {
    const nothing = () => Promise.resolve();
    return {
      stepStarted: nothing,
      stepDone: nothing,
      turnedBack: nothing,
      completed: (tx, facts) => this.#completed(tx, facts),
      undone: (tx, facts, reason) => this.#quarantine(tx, facts, reason),
      stuck: (tx, facts, _step, error) => this.#quarantine(tx, facts, error),
    };
  }

  async #start(tx: Tx, machineId: string, verb: CareVerb, to: 'inspecting' | 'releasing'): Promise<string> {
    const at = this.#clock.now();
    const moved = await moveMachine(tx, this.#events, { machineId, to, actor: 'saga', at });
    if (!moved) {
      throw new RackstartError('state.conflict', `Machine ${machineId} is in no state to ${verb}.`);
    }
    return this.#sagas.start(tx, this.#definitions[verb], { subject: machineId, params: { machineId } });
  }

  async #completed(tx: Tx, { name, params: { machineId } }: SagaFacts<CareParams>): Promise<void> {
    const at = this.#clock.now();
    if (name === 'wipe') {
      await tx.updateTable('machines').set({ disk_state: 'clean' }).where('id', '=', machineId).execute();
    }
    await moveMachine(tx, this.#events, { machineId, to: 'available', actor: 'saga', at });
  }

  async #quarantine(tx: Tx, { params: { machineId } }: SagaFacts<CareParams>, reason: Reason): Promise<void> {
    const at = this.#clock.now();
    const { code, message } = reason;
    await quarantineMachine(tx, this.#events, { machineId, reason: message, actor: 'saga', at });
    const data = { subject: machineId, code, message };
    await this.#events.append(tx, 'alert.raised', { key: machineId, actor: 'saga', data });
  }
}
