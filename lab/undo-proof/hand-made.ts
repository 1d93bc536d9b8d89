import type { AccessDetails } from '../../appliance/providers/manual/access-details.ts';
import { awaitedAccess, enterAccess } from '../../appliance/providers/manual/access-entry.ts';
import type { EventLog } from '../../appliance/events/event-log.ts';
import type { Clock } from '../../appliance/kernel/clock.ts';
import { hasCode } from '../../appliance/kernel/errors.ts';
import type { Store } from '../../appliance/store/store.ts';

/** How a server is reached that somebody has set up by hand. */
export const handMade: AccessDetails = {
  ...{ username: 'root', addresses: ['198.51.100.7'], verify: true },
  hostKey: 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJu0yI2Zb3bR3cLzqmAqUnnzNsVIV1sbHGf2HIfEvZ4a',
};

/** Whoever is asked to set up a server has done so. */
export async function enterAccessDetails(
  { store, clock }: { store: Store; clock: Clock },
  { process: { events } }: { process: { events: EventLog } },
): Promise<void> {
  for (const { attempt_id: attemptId } of await awaitedAccess(store.read)) {
    const entering = { attemptId, details: handMade, actor: 'key_1', at: clock.now() };
    try {
      await store.transaction((tx) => enterAccess(tx, events, entering));
    } catch (error) {
      // Released at this very moment: nobody wants it any more.
      if (!hasCode(error, 'state.conflict')) throw error;
    }
  }
}
