import type { Mac } from '../../pxe/boot-client.ts';
import type { BootDirector } from '../../pxe/boot-plan.ts';
import { createEventLog } from '../events/event-log.ts';
import { Sequencer } from '../events/sequencer.ts';
import { MINUTE } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import { createIds } from '../kernel/ids.ts';
import { silentLog } from '../kernel/log.ts';
import { Secret } from '../kernel/secret.ts';
import { eachStore } from '../store/test-stores.ts';
import type { Store } from '../store/store.ts';
import { enrolMachine } from './enrol.ts';
import { watched } from './watched-director.ts';

const MAC = '52:54:00:77:00:01' as Mac;
const STRANGER = '52:54:00:77:00:99' as Mac;

eachStore(
  'a refused token is an alert on the machine it was tried on, once in ten minutes',
  async (t, store, { clock }) => {
    const ids = createIds(clock);
    const sequencer = new Sequencer({ store, clock, log: silentLog });
    const events = createEventLog({ store, clock, ids, sequencer });
    const machineId = await machine(store, MAC);
    const refusing = { script: () => Promise.reject(new RackstartError('boot.token-refused', 'no')) };
    const director = watched(refusing as unknown as BootDirector, { store, events, clock });
    const knock = (mac: Mac) => t.rejects(director.script(mac, new Secret('guess')), { code: 'boot.token-refused' });
    const alerts = async () => {
      await sequencer.sequence();
      return (await events.read(0, 100)).filter(({ type }) => type === 'alert.raised').map(({ key }) => key);
    };

    await knock(STRANGER);
    t.same(await alerts(), [], 'a machine that nobody knows is nobody to alert for');
    await knock(MAC);
    await knock(MAC);
    t.same(await alerts(), [machineId]);
    await clock.advance(10 * MINUTE);
    await knock(MAC);
    t.same(await alerts(), [machineId, machineId]);

    async function machine(of: Store, mac: Mac): Promise<string> {
      return of.transaction(async (tx) => {
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
        const nics = [{ mac, role: 'both' }] as const;
        return enrolMachine(
          tx,
          { events, ids, seal: () => 'sealed' },
          { name: 'm1', rackId: 'rck_1', bmc, nics, diskRule: { minBytes: 0 } },
          { actor: 'test', at: clock.now() },
        );
      });
    }
  },
);
