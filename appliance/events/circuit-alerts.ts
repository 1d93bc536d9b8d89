import { asRackstartError } from '../kernel/errors.ts';
import type { CircuitTurn } from '../kernel/guard.ts';
import type { Log } from '../kernel/log.ts';
import type { Store } from '../store/store.ts';
import type { EventLog } from './event-log.ts';

/**
 * Tells people that a cluster is down, once for as long as it is, and everybody when it is back. Whoever was called is not
 * waiting for this: what can't be written is in the log.
 */
export function circuitAlerts(deps: { store: Store; events: EventLog; log: Log }): (turn: CircuitTurn) => void {
  const { log } = deps;
  return (turn) => {
    const { cluster } = turn;
    if (turn.to === 'open') log.warn({ cluster, code: turn.error.code, reason: turn.error.message }, 'circuit open');
    else log.info({ cluster, openMs: turn.at - turn.openedAt }, 'circuit closed');
    tell(deps, turn).catch((error: unknown) => {
      const { code, message } = asRackstartError(error);
      log.error({ cluster, code, reason: message }, 'a circuit turned, and it could not be told');
    });
  };
}

async function tell({ store, events }: { store: Store; events: EventLog }, turn: CircuitTurn): Promise<void> {
  const { cluster } = turn;
  const about = { key: cluster, actor: 'guard' };
  await store.transaction(async (tx) => {
    if (turn.to === 'closed') {
      const data = { cluster, from: turn.openedAt, to: turn.at };
      await events.append(tx, 'circuit.closed', { ...about, data });
      return;
    }
    const message = `${cluster} does not answer and is not called until it does: ${turn.error.message}`;
    const data = { subject: cluster, code: 'provider.circuit-open', message };
    await events.append(tx, 'alert.raised', { ...about, data });
  });
}
