import { HOUR, MINUTE, SECOND } from '../../appliance/kernel/clock.ts';
import type { Store } from '../../appliance/store/store.ts';
import { eachStore } from '../../appliance/store/test-stores.ts';
import { bookOf, bound, clients } from './lease-book.fixture.ts';
import { leaseRows, reserve, seedSubnet, SUBNET } from './subnet.fixture.ts';

const [known, one, two, three, four] = clients;

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

eachStore(
  "a stranger's lease is in the database before it is told, and an offer never",
  async (t, store, { clock }) => {
    await seedSubnet(store);
    const book = bookOf(store, clock);
    const client = { ...one, clientId: 'ff00', hostname: 'stranger "é' };
    const binding = await book.offer(client);
    t.same(binding, {
      address: '10.77.0.100',
      prefixLength: 24,
      dns: ['10.77.0.2'],
      leaseTime: 3600,
      permanent: false,
    });
    t.same(await leaseRows(store), []);
    t.equal((await book.bind(client, '10.77.0.100')).kind, 'bound');
    const row = {
      subnet_id: SUBNET,
      address: '10.77.0.100',
      mac: one.mac,
      client_id: 'ff00',
      hostname: 'stranger "é',
      state: 'bound',
      expires_at: clock.now() + HOUR,
    };
    t.same(await leaseRows(store), [row]);
    await clock.advance(MINUTE);
    t.equal((await book.bind(one, '10.77.0.100')).kind, 'bound');
    t.same(
      await leaseRows(store),
      [{ ...row, client_id: null, hostname: null, expires_at: clock.now() + HOUR }],
      'renewed',
    );
  },
);

eachStore(
  'a repeated DISCOVER is offered the same address, for a minute from when the offer is old',
  async (t, store, { clock }) => {
    await seedSubnet(store, { leaseLast: '10.77.0.100' });
    const book = bookOf(store, clock);
    await book.offer(one);
    await clock.advance(MINUTE / 2);
    t.equal((await book.offer(one))?.address, '10.77.0.100');
    await clock.advance(MINUTE - 1);
    await t.rejects(book.offer(two), { code: 'address.pool-empty' });
    await clock.advance(1);
    t.equal((await book.offer(two))?.address, '10.77.0.100');
    t.same(await book.bind(one, '10.77.0.100'), { kind: 'elsewhere' });
  },
);

eachStore('who starts again finds every lease, and gives none of them away', async (t, store, { clock }) => {
  await seedSubnet(store);
  const book = bookOf(store, clock);
  await bound(book, one);
  await book.decline(two, await bound(book, two));
  await book.offer(three);
  const again = bookOf(store, clock);
  t.same(await again.bind(three, '10.77.0.102'), { kind: 'unknown' }, 'it was only offered');
  t.equal(await bound(again, four), '10.77.0.102');
  await t.rejects(again.offer({ ...three, requested: '10.77.0.100' }), { code: 'address.pool-empty' });
  t.equal(await bound(again, one), '10.77.0.100');
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
  const before = await leaseRows(store);
  await clock.advance(1);
  t.same(await book.bind(one, address), { kind: 'elsewhere' });
  t.same(await leaseRows(store), before);
  t.equal((await book.offer(one))?.address, '10.77.0.12');
});

eachStore('an address that was given to a server meanwhile is not leased any longer', async (t, store, { clock }) => {
  await seedSubnet(store);
  const book = bookOf(store, clock);
  await bound(book, one);
  await reserve(store, known.mac, '10.77.0.100');
  const before = await leaseRows(store);
  await clock.advance(1);
  t.same(await book.bind(one, '10.77.0.100'), { kind: 'elsewhere' });
  t.same(await leaseRows(store), before);
  t.equal(await bound(book, one), '10.77.0.101');
});

eachStore('a range that is moved takes its clients along', async (t, store, { clock }) => {
  await seedSubnet(store);
  const book = bookOf(store, clock);
  await bound(book, one);
  await store.transaction((tx) =>
    tx.updateTable('subnets').set({ lease_first: '10.77.0.105', lease_last: '10.77.0.106' }).execute(),
  );
  await clock.advance(SECOND);
  t.same(await book.bind(one, '10.77.0.100'), { kind: 'elsewhere' });
  t.equal(await bound(book, one), '10.77.0.105');
});

eachStore('the database itself holds one lease a client', async (t, store, { clock }) => {
  await seedSubnet(store);
  await bound(bookOf(store, clock), one);
  const [row] = await leaseRows(store);
  const twice = { ...row!, address: '10.77.0.101' };
  const insert = (values: typeof twice) => store.transaction((tx) => tx.insertInto('leases').values(values).execute());
  await t.rejects(insert(twice));
  await insert({ ...twice, state: 'declined' });
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

function readOnly(store: Store): Store {
  return {
    ...store,
    read: store.read,
    transaction: () => Promise.reject(new Error('something was written')),
  };
}
