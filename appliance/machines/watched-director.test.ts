import { createSecretKey } from 'node:crypto';

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
import { StoreBootDirector } from './boot-director.ts';
import { enrolled } from './enrolled.fixture.ts';
import { MachineBell } from './machine-bell.ts';
import { watched } from './watched-director.ts';

const MAC = '52:54:00:77:00:01' as Mac;
const STRANGER = '52:54:00:77:00:99' as Mac;

eachStore(
  'a refused token is an alert on the machine it was tried on, once in ten minutes',
  async (t, store, { clock }) => {
    const ids = createIds(clock);
    const sequencer = new Sequencer({ store, clock, log: silentLog });
    const events = createEventLog({ store, clock, ids, sequencer });
    const machineId = await enrolled(store, MAC, { events, ids, clock });
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
  },
);

eachStore(
  'a boot that a relay tells from another switch port is refused, and alerts once in ten minutes',
  async (t, store, { clock }) => {
    const ids = createIds(clock);
    const sequencer = new Sequencer({ store, clock, log: silentLog });
    const events = createEventLog({ store, clock, ids, sequencer });
    const machineId = await enrolled(store, MAC, { events, ids, clock }, 'sw-7/eth3');
    const tokenKey = createSecretKey(Buffer.alloc(32));
    const asked = new StoreBootDirector({
      store,
      events,
      bell: new MachineBell(events),
      tokenKey,
      clock,
      ids,
      imagesUrl: 'http://10.0.0.1',
    });
    const director = watched(asked, { store, events, clock });
    const decide = (port?: string) =>
      director.decide({ mac: MAC, kind: 'pxe-rom', architecture: 7, ...(port === undefined ? {} : { port }) });
    const alerts = async () => {
      await sequencer.sequence();
      return (await events.read(0, 100)).flatMap((event) => (event.type === 'alert.raised' ? [event.data] : []));
    };

    t.match(await decide(), { verb: 'local-disk' }, 'no relay told a port');
    t.match(await decide('sw-7/eth3'), { verb: 'local-disk' });
    t.same(await alerts(), []);
    for (let round = 0; round < 2; round++) {
      t.match(await decide('sw-7/eth4'), { verb: 'ignore', why: /sw-7\/eth4.*sw-7\/eth3/ });
    }
    t.match(await alerts(), [{ subject: machineId, code: 'boot.mismatch', message: /52:54:00:77:00:01.*sw-7\/eth4/ }]);
    t.equal((await alerts()).length, 1);
    await store.transaction((tx) => tx.updateTable('machine_nics').set({ switch_port: null }).execute());
    t.match(await decide('sw-7/eth4'), { verb: 'local-disk' }, 'where the inventory names none, any will do');
  },
);
