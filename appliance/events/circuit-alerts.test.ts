import { createIds } from '../kernel/ids.ts';
import { RackstartError } from '../kernel/errors.ts';
import { silentLog } from '../kernel/log.ts';
import { eachStore, sqliteStore } from '../store/test-stores.ts';
import { circuitAlerts } from './circuit-alerts.ts';
import { createEventLog } from './event-log.ts';
import { Sequencer } from './sequencer.ts';

const cluster = 'bmc:north/rack-1';
const error = new RackstartError('bmc.unreachable', 'BMC 192.0.2.1:623 did not answer');

eachStore('a circuit that opens is an alert, and that it closed is told', async (t, store, { clock }) => {
  const sequencer = new Sequencer({ store, clock, log: silentLog });
  const events = createEventLog({ store, clock, ids: createIds(clock), sequencer });
  const written = Promise.withResolvers<undefined>();
  let committed = 0;
  const counted = {
    ...store,
    transaction: async <T>(work: Parameters<typeof store.transaction<T>>[0]) => {
      const result = await store.transaction(work);
      committed += 1;
      if (committed === 2) written.resolve(undefined);
      return result;
    },
  };
  const tell = circuitAlerts({ store: counted, events, log: silentLog });
  const at = clock.now();
  tell({ cluster, to: 'open', at, error });
  tell({ cluster, to: 'closed', at: at + 30, openedAt: at });
  await written.promise;
  await sequencer.sequence();
  const told = await events.read(0, 10);
  t.match(
    told.sort((a, b) => (a.type < b.type ? -1 : 1)),
    [
      {
        type: 'alert.raised',
        key: cluster,
        data: { subject: cluster, code: 'provider.circuit-open', message: /does not answer.*192\.0\.2\.1/ },
      },
      { type: 'circuit.closed', key: cluster, data: { cluster, from: at, to: at + 30 } },
    ],
  );
});

sqliteStore('what cannot be written is logged, and fails nobody', async (t, store, { clock }) => {
  const sequencer = new Sequencer({ store, clock, log: silentLog });
  const events = createEventLog({ store, clock, ids: createIds(clock), sequencer });
  const logged = Promise.withResolvers<unknown>();
  const log = { ...silentLog, error: (fields: unknown) => logged.resolve(fields) };
  const away = { ...store, transaction: () => Promise.reject(new RackstartError('store.unavailable', 'gone')) };
  circuitAlerts({ store: away, events, log })({ cluster, to: 'open', at: clock.now(), error });
  t.match(await logged.promise, { cluster, code: 'store.unavailable' });
});
