import { HOUR, MINUTE } from '../../appliance/kernel/clock.ts';
import { asRackstartError } from '../../appliance/kernel/errors.ts';
import type { ManualClock } from '../../appliance/kernel/manual-clock.ts';
import type { Store } from '../../appliance/store/store.ts';
import { eachStore } from '../../appliance/store/test-stores.ts';
import { parseMac } from '../boot-client.ts';
import type { LeaseClient } from './lease-book.ts';
import { writeBound, writeOffer } from './lease-rows.ts';
import { StoreLeaseBook } from './records.ts';
import { leaseRows, reserve, seedSubnet, SUBNET } from './subnet.fixture.ts';

const [known, one, two, three, four] = ['01', '02', '03', '04', '05'].map((last): LeaseClient => ({
  mac: parseMac(`52:54:00:77:00:${last}`)!,
})) as [LeaseClient, LeaseClient, LeaseClient, LeaseClient, LeaseClient];

eachStore('a known machine has its reservation, and nothing is written for it', async (t, store, { clock }) => {
  await seedSubnet(store, { gateway: '10.77.0.254' });
  await reserve(store, known.mac, '10.77.0.11');
  const book = bookOf(readOnly(store), clock);
  const binding = {
    address: '10.77.0.11',
    prefixLength: 24,
    gateway: '10.77.0.254',
    dns: ['10.77.0.2'],
    leaseTime: 86_400,
    permanent: true,
  };
  t.same(await book.offer(known), binding);
  t.same(await book.bind(known, '10.77.0.11'), { kind: 'bound', binding });
  t.same(await book.bind(known, '10.77.0.100'), { kind: 'elsewhere' });
  await book.withdraw(known);
  await book.release(known, '10.77.0.11');
  await book.decline(known, '10.77.0.11');
  t.same(await book.bind(known, '10.77.0.11'), { kind: 'bound', binding });
  t.same(await leaseRows(store), []);
});

eachStore("a stranger's lease is in the database before it is told", async (t, store, { clock }) => {
  await seedSubnet(store);
  const book = bookOf(store, clock);
  const client = { ...one, clientId: 'ff00', hostname: 'stranger' };
  const binding = await book.offer(client);
  t.same(binding, { address: '10.77.0.100', prefixLength: 24, dns: ['10.77.0.2'], leaseTime: 3600, permanent: false });
  const row = {
    subnet_id: SUBNET,
    address: '10.77.0.100',
    mac: one.mac,
    client_id: 'ff00',
    hostname: 'stranger',
    state: 'offered',
    expires_at: clock.now() + MINUTE,
  };
  t.same(await leaseRows(store), [row]);
  t.equal((await book.bind(client, '10.77.0.100')).kind, 'bound');
  t.same(await leaseRows(store), [{ ...row, state: 'bound', expires_at: clock.now() + HOUR }]);
});

eachStore('a repeated DISCOVER is offered the same address, and writes nothing', async (t, store, { clock }) => {
  await seedSubnet(store);
  await bookOf(store, clock).offer(one);
  await clock.advance(MINUTE / 4);
  t.equal((await bookOf(readOnly(store), clock).offer(one))?.address, '10.77.0.100');
  await clock.advance(MINUTE / 2);
  t.equal((await bookOf(store, clock).offer(one))?.address, '10.77.0.100');
  t.equal((await leaseRows(store))[0]?.expires_at, clock.now() + MINUTE, 'an offer about to end is made anew');
});

eachStore('a full subnet does not steal a live lease', async (t, store, { clock }) => {
  await seedSubnet(store);
  const book = bookOf(store, clock);
  for (const client of [one, two, three]) await bound(book, client);
  const before = await leaseRows(store);
  await t.rejects(book.offer(four), {
    code: 'address.pool-empty',
    details: { subnet: '10.77.0.0/24', first: '10.77.0.100', last: '10.77.0.102' },
  });
  await t.rejects(book.offer({ ...four, requested: '10.77.0.101' }), { code: 'address.pool-empty' });
  t.same(await book.bind(four, '10.77.0.101'), { kind: 'elsewhere' });
  t.same(await leaseRows(store), before);
});

eachStore('an address is free again when its lease has ended, and its client finds it', async (t, store, { clock }) => {
  await seedSubnet(store);
  const book = bookOf(store, clock);
  const addresses = [];
  for (const client of [one, two, three]) {
    addresses.push(await bound(book, client));
    await clock.advance(MINUTE);
  }
  await clock.advance(HOUR);
  t.equal(await bound(book, two), addresses[1], 'its own, though another has been free for longer');
  t.equal(await bound(book, four), addresses[0], 'the one that has been free for longest');
  t.equal((await book.bind(three, addresses[2]!)).kind, 'bound', 'a lease that ended is taken up again');
  t.same(await book.bind(one, addresses[0]!), { kind: 'elsewhere' });
});

eachStore('clients that come at once, and twice, get one address each', async (t, store, { clock }) => {
  await seedSubnet(store);
  const book = bookOf(store, clock);
  const offers = await Promise.all([one, two, three, one, two, three].map((client) => book.offer(client)));
  const addresses = offers.map((binding) => binding?.address);
  t.same(addresses.slice(3), addresses.slice(0, 3));
  t.same(new Set(addresses), new Set(['10.77.0.100', '10.77.0.101', '10.77.0.102']));
});

eachStore('a flood of strangers is turned away, and known machines do not wait for it', async (t, store, { clock }) => {
  await seedSubnet(store);
  await reserve(store, known.mac, '10.77.0.11');
  const book = bookOf(store, clock);
  const flood = Array.from({ length: 100 }, (_, index) =>
    book.offer({ mac: parseMac(`52:54:00:78:00:${index.toString(16).padStart(2, '0')}`)! }).then(
      (binding) => binding?.address,
      (error: unknown) => asRackstartError(error).code,
    ),
  );
  t.equal((await book.offer(known))?.address, '10.77.0.11');
  const outcomes = await Promise.all(flood);
  const count = (outcome: string) => outcomes.filter((one) => one === outcome).length;
  t.same([count('address.pool-empty'), count('store.unavailable')], [61, 36]);
});

eachStore('two processes by mistake on one subnet still give no address twice', async (t, store, { clock }) => {
  await seedSubnet(store);
  const offers = await Promise.all([one, two, three].map((client) => bookOf(store, clock).offer(client)));
  t.same(new Set(offers.map((binding) => binding?.address)), new Set(['10.77.0.100', '10.77.0.101', '10.77.0.102']));
});

eachStore('who asks for an address gets it when it is free', async (t, store, { clock }) => {
  await seedSubnet(store, { gateway: '10.77.0.100' });
  const book = bookOf(store, clock);
  t.equal((await book.offer({ ...one, requested: '10.77.0.102' }))?.address, '10.77.0.102');
  t.equal((await book.offer({ ...two, requested: '10.77.0.102' }))?.address, '10.77.0.101', 'nor is it the gateway');
  t.equal((await book.offer({ ...three, requested: '10.77.0.11' }).catch(() => undefined))?.address, undefined);
});

eachStore('an address nobody has is neither given nor refused', async (t, store, { clock }) => {
  await seedSubnet(store);
  const book = bookOf(store, clock);
  t.same(await book.bind(one, '10.77.0.101'), { kind: 'unknown' });
  await bound(book, one);
  t.same(await book.bind(one, '10.77.0.101'), { kind: 'elsewhere' }, 'but it is, to one that has another');
  t.same(await book.bind(two, '10.77.0.100'), { kind: 'elsewhere' });
});

eachStore('a released address is free at once, and only its holder can release it', async (t, store, { clock }) => {
  await seedSubnet(store, { leaseLast: '10.77.0.100' });
  const book = bookOf(store, clock);
  await bound(book, one);
  await book.release(two, '10.77.0.100');
  await book.release(one, '10.77.0.101');
  await t.rejects(book.offer(two), { code: 'address.pool-empty' });
  await book.release(one, '10.77.0.100');
  t.equal((await book.offer(two))?.address, '10.77.0.100');
});

eachStore('an offer that another server won is free at once, a lease is not', async (t, store, { clock }) => {
  await seedSubnet(store, { leaseLast: '10.77.0.100' });
  const book = bookOf(store, clock);
  await book.offer(one);
  await book.withdraw(one);
  t.equal(await bound(book, two), '10.77.0.100');
  await book.withdraw(two);
  await t.rejects(book.offer(one), { code: 'address.pool-empty' });
});

eachStore(
  'a declined address rests for ten minutes, for the client that declined it too',
  async (t, store, { clock }) => {
    await seedSubnet(store, { leaseLast: '10.77.0.101' });
    const book = bookOf(store, clock);
    const address = await bound(book, one);
    await book.decline(two, address);
    t.equal((await book.offer(one))?.address, address, 'nobody declines what another has');
    await book.decline(one, address);
    t.same(await book.bind(one, address), { kind: 'elsewhere' });
    t.equal(await bound(book, one), '10.77.0.101');
    await t.rejects(book.offer({ ...two, requested: address }), { code: 'address.pool-empty' });
    await clock.advance(10 * MINUTE);
    t.equal((await book.offer(two))?.address, address);
  },
);

eachStore('a stranger that becomes known leaves its lease for its reservation', async (t, store, { clock }) => {
  await seedSubnet(store);
  const book = bookOf(store, clock);
  const address = await bound(book, one);
  await reserve(store, one.mac, '10.77.0.12');
  t.same(await book.bind(one, address), { kind: 'elsewhere' });
  t.equal((await book.offer(one))?.address, '10.77.0.12');
});

eachStore('an address that was given to a server meanwhile is not leased any longer', async (t, store, { clock }) => {
  await seedSubnet(store);
  const book = bookOf(store, clock);
  await bound(book, one);
  await reserve(store, known.mac, '10.77.0.100');
  t.same(await book.bind(one, '10.77.0.100'), { kind: 'elsewhere' });
  t.equal(await bound(book, one), '10.77.0.101');
});

eachStore('a range that is moved takes its clients along', async (t, store, { clock }) => {
  await seedSubnet(store);
  const book = bookOf(store, clock);
  await bound(book, one);
  await store.transaction((tx) =>
    tx.updateTable('subnets').set({ lease_first: '10.77.0.105', lease_last: '10.77.0.106' }).execute(),
  );
  t.same(await book.bind(one, '10.77.0.100'), { kind: 'elsewhere' });
  t.equal(await bound(book, one), '10.77.0.105');
});

eachStore('a write that comes too late takes nothing from anybody', async (t, store, { clock }) => {
  await seedSubnet(store);
  const address = await bound(bookOf(store, clock), one);
  const before = await leaseRows(store);
  const times = { now: clock.now(), until: clock.now() + MINUTE };
  t.notOk(await store.transaction((tx) => writeOffer(tx, SUBNET, two, address, times)));
  t.notOk(await store.transaction((tx) => writeBound(tx, SUBNET, two, address, times.until)));
  t.same(await leaseRows(store), before);
});

eachStore('a network without a range for strangers serves known machines alone', async (t, store, { clock }) => {
  await seedSubnet(store, { leaseFirst: null, leaseLast: null });
  await reserve(store, known.mac, '10.77.0.11');
  const book = bookOf(readOnly(store), clock);
  t.equal((await book.offer(known))?.address, '10.77.0.11');
  t.equal(await book.offer(one), undefined);
  t.same(await book.bind(one, '10.77.0.100'), { kind: 'unknown' });
  t.same(await book.parameters(one), { prefixLength: 24, dns: ['10.77.0.2'] });
});

eachStore('a subnet that is not there is named', async (t, store, { clock }) => {
  const book = bookOf(store, clock);
  const works: (() => Promise<unknown>)[] = [
    () => book.offer(one),
    () => book.bind(one, '10.77.0.100'),
    () => book.parameters(one),
  ];
  for (const work of works) {
    await t.rejects(work(), { code: 'config.invalid', details: { subnet: SUBNET } });
  }
});

function bookOf(store: Store, clock: ManualClock): StoreLeaseBook {
  return new StoreLeaseBook({ store, subnetId: SUBNET, clock });
}

async function bound(book: StoreLeaseBook, client: LeaseClient): Promise<string> {
  const address = (await book.offer(client))!.address;
  const result = await book.bind(client, address);
  if (result.kind !== 'bound') throw new Error(`${address} was offered and then ${result.kind}`);
  return address;
}

function readOnly(store: Store): Store {
  return {
    ...store,
    read: store.read,
    transaction: () => Promise.reject(new Error('something was written')),
  };
}
