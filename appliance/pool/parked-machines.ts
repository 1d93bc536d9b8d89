import type { EventLog } from '../events/event-log.ts';
import type { Clock, Millis } from '../kernel/clock.ts';
import { SECOND } from '../kernel/clock.ts';
import type { Ids } from '../kernel/ids.ts';
import type { Log } from '../kernel/log.ts';
import { periodically } from '../kernel/periodically.ts';
import type { Service } from '../kernel/service.ts';
import type { MachineBell } from '../machines/machine-bell.ts';
import { raiseIssue } from '../machines/machine-issues.ts';
import type { Reader, Store, Tx } from '../store/store.ts';
import type { ReadyPool } from './ready-pool.ts';

export interface ParkedMachinesDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly pool: ReadyPool;
  readonly bell: MachineBell;
  /** Of the ramdisk that is served here; undefined where none is. */
  readonly ramdisk: string | undefined;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
}

export interface ParkedMachinesLimits {
  /** A parked machine asks twice a minute. */
  readonly silence: Millis;
  /** How many machines are out of the pool at once because their ramdisk is an old one. */
  readonly rolledAtOnce: number;
}

/**
 * Keeps true what `ready` says: a machine that has stopped asking for orders leaves the pool, and one that waits in an older
 * ramdisk than is served here is warmed anew, a few at a time. It touches none that is held, and goes by the tables alone.
 */
export class ParkedMachines implements Service {
  readonly name = 'parked-machines';
  readonly #deps: ParkedMachinesDeps;
  readonly #limits: ParkedMachinesLimits;

  constructor(deps: ParkedMachinesDeps, limits: ParkedMachinesLimits) {
    this.#deps = deps;
    this.#limits = limits;
  }

  run(signal: AbortSignal): Promise<void> {
    // While no daemon ran nobody could be heard.
    const began = this.#deps.clock.now();
    const failure = 'parked machines could not be looked at';
    return periodically(() => this.look(began), { ...this.#deps, every: LOOK_EVERY, failure }, signal);
  }

  /** `listeningSince`: from when on a machine that asked would have been heard. */
  async look(listeningSince: Millis): Promise<void> {
    const { store, clock, bell, ramdisk } = this.#deps;
    const { silence, rolledAtOnce } = this.#limits;
    const ready = await readyMachines(store.read);
    const isSilent = ({ seenAt }: Ready) => Math.max(seenAt ?? 0, listeningSince) + silence <= clock.now();
    for (const machine of ready.filter(isSilent)) await this.#dropSilent(machine);
    // Another daemon may serve another ramdisk: ours are those that wait here.
    const isOld = (machine: Ready) => machine.ramdisk !== ramdisk && bell.hears(machine.machineId);
    const old = ramdisk === undefined ? [] : ready.filter((machine) => !isSilent(machine) && isOld(machine));
    const places = old.length === 0 ? 0 : rolledAtOnce - (await onTheWay(store.read));
    for (const { machineId } of old.slice(0, Math.max(0, places))) {
      await store.transaction((tx) => this.#drain(tx, machineId, { again: true }));
    }
  }

  async #dropSilent({ machineId, name, seenAt }: Ready): Promise<void> {
    const { store, events, clock, ids } = this.#deps;
    const at = clock.now();
    const silentFor = seenAt === null ? '' : ` for ${String(Math.round((at - seenAt) / SECOND))} s`;
    const message = `Machine ${name} was ready, and has not asked for an order${silentFor}: it is switched off.`;
    await store.transaction(async (tx) => {
      if (!(await this.#drain(tx, machineId, { silent: true }))) return;
      const data = { subject: machineId, code: 'boot.stage-late', message } as const;
      await events.append(tx, 'alert.raised', { key: machineId, actor: 'pool', data });
      const times = await timesSilent(tx, machineId);
      if (times < REPEATED) return;
      await raiseIssue(tx, events, ids, { machineId, type: 'falls-silent', message, evidence: { times }, at });
    });
  }

  /** False when it is not ready any more: an order may have come first. */
  async #drain(tx: Tx, machineId: string, how: { again?: boolean; silent?: boolean }): Promise<boolean> {
    const machine = await tx.selectFrom('machines').select('state').where('id', '=', machineId).executeTakeFirst();
    if (machine?.state !== 'ready') return false;
    await this.#deps.pool.drainMachine(tx, machineId, how);
    return true;
  }
}

/** Once may be anybody's fault. */
const REPEATED = 2;

const LOOK_EVERY = 10 * SECOND;

interface Ready {
  readonly machineId: string;
  readonly name: string;
  /** Null where it waits for nothing at all. */
  readonly seenAt: Millis | null;
  readonly ramdisk: string | null;
}

function readyMachines(read: Reader): Promise<Ready[]> {
  return read
    .selectFrom('machines')
    .leftJoin('boot_sessions', (join) =>
      join
        .onRef('boot_sessions.machine_id', '=', 'machines.id')
        .on('boot_sessions.ended_at', 'is', null)
        .on('boot_sessions.state', '=', 'parked'),
    )
    .select(['machines.id as machineId', 'machines.name', 'boot_sessions.seen_at as seenAt', 'boot_sessions.ramdisk'])
    .where('machines.state', '=', 'ready')
    .orderBy('machines.id')
    .execute();
}

/** Machines that leave the pool or come into it. */
async function onTheWay(read: Reader): Promise<number> {
  const { count } = await read
    .selectFrom('machines')
    .select((eb) => eb.fn.countAll<number>().as('count'))
    .where('state', 'in', ['draining', 'warming'])
    .executeTakeFirstOrThrow();
  return count;
}

async function timesSilent(read: Reader, machineId: string): Promise<number> {
  const { count } = await read
    .selectFrom('boot_sessions')
    .select((eb) => eb.fn.countAll<number>().as('count'))
    .where('machine_id', '=', machineId)
    .where('end_reason', '=', 'silent')
    .executeTakeFirstOrThrow();
  return count;
}
