import { parseMac } from '../../pxe/boot-client.ts';
import { SECOND } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import { Guards } from '../kernel/guard.ts';
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
  await rack(store);
  const id = await enrol(store, clock);
  const { fleet, connected } = fleetOf(store, clock);
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
    await rack(store);
    const id = await enrol(store, clock);
    const { fleet, connected } = fleetOf(store, clock);
    await fleet.of(id);
    await store.transaction((tx) => tx.updateTable('machines').set({ bmc_address: '192.0.2.2' }).execute());
    await fleet.of(id);
    t.match(connected, [{ closed: true }, { closed: false, endpoint: { address: '192.0.2.2' } }]);
    await fleet.close();
    t.match(connected, [{ closed: true }, { closed: true }]);
    await t.rejects(fleet.of('mch_none'), { code: 'not-found' });
  },
);

eachStore('a management switch that is down is not asked by every machine of its rack', async (t, store, { clock }) => {
  await rack(store);
  const ids: string[] = [];
  for (const number of [1, 2, 3, 4, 5]) ids.push(await enrol(store, clock, number));
  const { fleet, connected, guards, setDead } = fleetOf(store, clock);
  const read = async (number: number) => (await fleet.of(ids[number - 1]!)).power(new AbortController().signal);

  setDead('192.0.2.1');
  for (let times = 0; times < 5; times += 1) await t.rejects(read(1), { code: 'bmc.unreachable' });
  t.equal(await read(2), 'off', 'one BMC that is dead says nothing of its rack');
  t.match(guards.list(), [{ cluster: 'bmc:north/a', state: 'closed', failures: 0 }]);

  setDead('192.0.2.1', '192.0.2.2', '192.0.2.3', '192.0.2.4', '192.0.2.5');
  for (const number of [1, 2, 3]) await t.rejects(read(number), { code: 'bmc.unreachable' });
  await t.rejects(read(4), { code: 'provider.circuit-open', details: { retryAt: clock.now() + 15 * SECOND } });
  await t.rejects(read(1), { code: 'provider.circuit-open' });
  t.match(guards.list(), [{ cluster: 'bmc:north/a', state: 'open', refused: 2 }]);
  t.match(connected.slice(3), [{ endpoint: { address: '192.0.2.4' }, asked: 0 }], 'the refused one sent nothing');

  setDead();
  await clock.advance(15 * SECOND);
  t.equal(await read(5), 'off');
  t.match(guards.list(), [{ state: 'closed' }]);
});

function fleetOf(store: Store, clock: ManualClock) {
  const connected: { endpoint: BmcEndpoint; closed: boolean; asked: number }[] = [];
  let dead: readonly string[] = [];
  const guards = new Guards(clock);
  const fleet = new BmcFleet({
    read: store.read,
    guards,
    unseal: (machineId, sealed) => new Secret(`${machineId} ${sealed}`),
    connect: (endpoint): Bmc => {
      const one = { endpoint, closed: false, asked: 0 };
      connected.push(one);
      const bmc = new RackMachine(mac, () => Promise.reject(new Error('it does not boot')));
      bmc.close = () => Promise.resolve(void (one.closed = true));
      bmc.atCommand = () => {
        one.asked += 1;
        if (dead.includes(endpoint.address)) throw new RackstartError('bmc.unreachable', 'no answer');
      };
      return bmc;
    },
    onCommand: () => undefined,
  });
  return { fleet, connected, guards, setDead: (...addresses: string[]) => void (dead = addresses) };
}

async function rack(store: Store): Promise<void> {
  const net = { region_id: 'reg1', role: 'both', family: 4, cidr: '10.0.0.0/24', gateway: null, dns: '[]' } as const;
  const pools = {
    server_first: '10.0.0.10',
    server_last: '10.0.0.20',
    reserved_first: '10.0.0.30',
    reserved_last: '10.0.0.40',
  };
  await store.transaction(async (tx) => {
    await tx.insertInto('regions').values({ id: 'reg1', name: 'north' }).execute();
    await tx.insertInto('racks').values({ id: 'rack1', region_id: 'reg1', name: 'a' }).execute();
    await tx
      .insertInto('subnets')
      .values({ id: 'net1', ...net, ...pools, lease_first: null, lease_last: null })
      .execute();
  });
}

function enrol(store: Store, clock: ManualClock, number = 1): Promise<string> {
  const ids = createIds(clock);
  const events = { append: () => Promise.resolve() } as never;
  const bmc = { kind: 'ipmi', address: `192.0.2.${String(number)}`, port: 623, username: 'admin' } as const;
  return store.transaction((tx) =>
    enrolMachine(
      tx,
      { events, ids, seal: () => 'sealed' },
      {
        name: `m${String(number)}`,
        rackId: 'rack1',
        bmc: { ...bmc, password: new Secret('x'), cipherSuite: 3 },
        nics: [{ mac: parseMac(`52:54:00:77:00:0${String(number)}`)!, role: 'both' }],
        diskRule: { minBytes: 1 },
      },
      { actor: 'key_1', at: clock.now() },
    ),
  );
}
