import { parseMac } from '../../pxe/boot-client.ts';
import { createIds } from '../kernel/ids.ts';
import type { ManualClock } from '../kernel/manual-clock.ts';
import { Secret } from '../kernel/secret.ts';
import type { Store } from '../store/store.ts';
import { eachStore } from '../store/test-stores.ts';
import type { Bmc, BmcEndpoint } from './bmc/bmc.ts';
import { BmcFleet } from './bmc-fleet.ts';
import { enrolMachine } from './enrol.ts';
import { RackMachine } from './rack.fixture.ts';

const mac = parseMac('52:54:00:77:00:01')!;

eachStore('all who speak to one BMC share its session, also when they ask at once', async (t, store, { clock }) => {
  const id = await enrol(store, clock);
  const { fleet, connected } = fleetOf(store);
  const bmcs = await Promise.all([fleet.of(id), fleet.of(id), fleet.of(id)]);
  t.equal(new Set(bmcs).size, 1);
  t.equal(await fleet.of(id), bmcs[0]);
  t.equal(connected.length, 1);
  t.match(connected[0]!.endpoint, { address: '192.0.2.1', port: 623, username: 'admin', cipherSuite: 3 });
  t.equal(connected[0]!.endpoint.password.reveal(), `${id} sealed`, 'opened for this machine');
});

eachStore(
  'a BMC whose address has changed gets a new session, and the old one is closed',
  async (t, store, { clock }) => {
    const id = await enrol(store, clock);
    const { fleet, connected } = fleetOf(store);
    await fleet.of(id);
    await store.transaction((tx) => tx.updateTable('machines').set({ bmc_address: '192.0.2.2' }).execute());
    await fleet.of(id);
    t.match(connected, [{ closed: true }, { closed: false, endpoint: { address: '192.0.2.2' } }]);
    await fleet.close();
    t.match(connected, [{ closed: true }, { closed: true }]);
    await t.rejects(fleet.of('mch_none'), { code: 'not-found' });
  },
);

function fleetOf(store: Store) {
  const connected: { endpoint: BmcEndpoint; closed: boolean }[] = [];
  const fleet = new BmcFleet({
    read: store.read,
    unseal: (machineId, sealed) => new Secret(`${machineId} ${sealed}`),
    connect: (endpoint): Bmc => {
      const one = { endpoint, closed: false };
      connected.push(one);
      const bmc = new RackMachine(mac, () => Promise.reject(new Error('it does not boot')));
      bmc.close = () => Promise.resolve(void (one.closed = true));
      return bmc;
    },
    onCommand: () => undefined,
  });
  return { fleet, connected };
}

async function enrol(store: Store, clock: ManualClock): Promise<string> {
  const net = { region_id: 'reg1', role: 'both', family: 4, cidr: '10.0.0.0/24', gateway: null, dns: '[]' } as const;
  const pools = {
    server_first: '10.0.0.10',
    server_last: '10.0.0.20',
    reserved_first: '10.0.0.30',
    reserved_last: '10.0.0.40',
  };
  const ids = createIds(clock);
  const events = { append: () => Promise.resolve() } as never;
  return store.transaction(async (tx) => {
    await tx.insertInto('regions').values({ id: 'reg1', name: 'north' }).execute();
    await tx.insertInto('racks').values({ id: 'rack1', region_id: 'reg1', name: 'a' }).execute();
    await tx
      .insertInto('subnets')
      .values({ id: 'net1', ...net, ...pools, lease_first: null, lease_last: null })
      .execute();
    return enrolMachine(
      tx,
      { events, ids, seal: () => 'sealed' },
      {
        name: 'm1',
        rackId: 'rack1',
        bmc: {
          kind: 'ipmi',
          address: '192.0.2.1',
          port: 623,
          username: 'admin',
          password: new Secret('x'),
          cipherSuite: 3,
        },
        nics: [{ mac, role: 'both' }],
        diskRule: { minBytes: 1 },
      },
      { actor: 'key_1', at: clock.now() },
    );
  });
}
