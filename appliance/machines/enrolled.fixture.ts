import type { Mac } from '../../pxe/boot-client.ts';
import type { EventLog } from '../events/event-log.ts';
import type { Clock } from '../kernel/clock.ts';
import type { Ids } from '../kernel/ids.ts';
import { Secret } from '../kernel/secret.ts';
import type { Store } from '../store/store.ts';
import { enrolMachine } from './enrol.ts';

export interface Enrolling {
  readonly events: EventLog;
  readonly ids: Ids;
  readonly clock: Clock;
}

/** The one machine of a new store, enrolled. */
export async function enrolled(
  store: Store,
  mac: Mac,
  { events, ids, clock }: Enrolling,
  switchPort?: string,
): Promise<string> {
  return store.transaction(async (tx) => {
    await tx.insertInto('regions').values({ id: 'reg_1', name: 'lab' }).execute();
    await tx.insertInto('racks').values({ id: 'rck_1', region_id: 'reg_1', name: 'r1' }).execute();
    const range = { server_first: '10.0.0.100', server_last: '10.0.0.200', lease_first: null, lease_last: null };
    await tx
      .insertInto('subnets')
      .values({
        ...range,
        id: 'net_1',
        region_id: 'reg_1',
        role: 'both',
        family: 4,
        cidr: '10.0.0.0/24',
        gateway: null,
        dns: '[]',
        reserved_first: '10.0.0.10',
        reserved_last: '10.0.0.20',
      })
      .execute();
    const password = new Secret('x');
    const bmc = { kind: 'ipmi', address: '10.1.0.1', port: 623, username: 'a', password, cipherSuite: 17 } as const;
    const nics = [{ mac, role: 'both', ...(switchPort === undefined ? {} : { switchPort }) }] as const;
    return enrolMachine(
      tx,
      { events, ids, seal: () => 'sealed' },
      { name: 'm1', rackId: 'rck_1', bmc, nics, diskRule: { minBytes: 0 } },
      { actor: 'test', at: clock.now() },
    );
  });
}
