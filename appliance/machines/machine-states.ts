import type { Millis } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { EventLog } from '../events/event-log.ts';
import type { MachineRow } from '../store/schema.ts';
import type { Tx } from '../store/store.ts';
import { revokeOrders } from './boot-order.ts';

export type MachineState = MachineRow['state'];

/** Where a machine may go. Every state may also go to `quarantined`, which is sticky: only an operator lifts it. */
const machineStates: Readonly<Record<MachineState, readonly MachineState[]>> = {
  enrolled: ['inspecting', 'retired'],
  inspecting: ['available', 'enrolled', 'retired'],
  available: ['warming', 'deploying', 'inspecting', 'retired'],
  warming: ['ready', 'available'],
  ready: ['deploying', 'draining'],
  draining: ['available'],
  deploying: ['deployed', 'ready', 'available', 'releasing'],
  deployed: ['releasing'],
  releasing: ['available', 'inspecting'],
  quarantined: ['enrolled', 'releasing', 'retired'],
  retired: [],
};

/** The table as a Mermaid diagram, for ARCHITECTURE.md. */
export function machineStateDiagram(): string {
  const arrows = Object.entries(machineStates).flatMap(([from, next]) => next.map((to) => `  ${from} --> ${to}`));
  const note = '  note right of quarantined : from any state but retired';
  return ['stateDiagram-v2', '  [*] --> enrolled', ...arrows, '  retired --> [*]', note].join('\n');
}

export interface MachineMove {
  readonly machineId: string;
  readonly to: MachineState;
  readonly reason?: string;
  readonly actor: string;
  readonly at: Millis;
}

/**
 * Moves a machine and tells of it, in one transaction. Only a state that may lead to `to` is left: a machine that somebody
 * else moved meanwhile stays where it is, and the answer is false. So it is for one with an open critical issue: it is
 * quarantined where it would have become available or ready, whoever moves it, and what it was told to boot is taken back.
 */
export async function moveMachine(tx: Tx, events: EventLog, move: MachineMove): Promise<boolean> {
  const { machineId, to, reason, actor, at } = move;
  const machine = await tx.selectFrom('machines').select('state').where('id', '=', machineId).executeTakeFirst();
  if (machine === undefined) throw new RackstartError('not-found', `There is no machine ${machineId}.`);
  const from = machine.state;
  if (!mayMove(from, to)) return false;
  const { numUpdatedRows } = await tx
    .updateTable('machines')
    .set({ state: to, quarantine_reason: to === 'quarantined' ? (reason ?? null) : null, updated_at: at })
    .where('id', '=', machineId)
    .where('state', '=', from)
    .executeTakeFirst();
  if (numUpdatedRows !== 1n) return false;
  // Asked after the row was written: an issue that is raised meanwhile waits for us, and finds the machine available.
  const unfit = to === 'available' || to === 'ready' ? await criticalIssue(tx, machineId) : undefined;
  if (unfit !== undefined) {
    await revokeOrders(tx, machineId, 'revoked', at);
    const aside = { state: 'quarantined', quarantine_reason: unfit } as const;
    await tx.updateTable('machines').set(aside).where('id', '=', machineId).execute();
  }
  const why = unfit ?? reason;
  await events.append(tx, 'machine.state-changed', {
    key: machineId,
    actor,
    data: {
      machineId,
      from,
      to: unfit === undefined ? to : 'quarantined',
      ...(why === undefined ? {} : { reason: why }),
    },
  });
  return unfit === undefined;
}

async function criticalIssue(tx: Tx, machineId: string): Promise<string | undefined> {
  const issue = await tx
    .selectFrom('machine_issues')
    .select('message')
    .where('machine_id', '=', machineId)
    .where('severity', '=', 'critical')
    .where('resolved_at', 'is', null)
    .orderBy('raised_at')
    .executeTakeFirst();
  return issue?.message;
}

function mayMove(from: MachineState, to: MachineState): boolean {
  return machineStates[from].includes(to) || (to === 'quarantined' && from !== 'retired' && from !== 'quarantined');
}
