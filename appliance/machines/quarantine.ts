import type { EventLog } from '../events/event-log.ts';
import type { Tx } from '../store/store.ts';
import { revokeOrders } from './boot-order.ts';
import { moveMachine } from './machine-states.ts';
import type { MachineMove } from './machine-states.ts';

/**
 * Sets a machine aside until an operator has looked at it. What it was told to boot is taken back: whatever it still does
 * over there, its tokens are dead. False: it was quarantined before, or is retired.
 */
export async function quarantineMachine(tx: Tx, events: EventLog, move: Omit<MachineMove, 'to'>): Promise<boolean> {
  await revokeOrders(tx, move.machineId, 'revoked', move.at);
  return moveMachine(tx, events, { ...move, to: 'quarantined' });
}
