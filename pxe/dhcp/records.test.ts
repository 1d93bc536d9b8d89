import { HOUR, MINUTE, SECOND } from '../../appliance/kernel/clock.ts';
import { asRackstartError, RackstartError } from '../../appliance/kernel/errors.ts';
import type { ManualClock } from '../../appliance/kernel/manual-clock.ts';
import type { Store } from '../../appliance/store/store.ts';
import { eachStore } from '../../appliance/store/test-stores.ts';
import { parseMac } from '../boot-client.ts';
import type { LeaseClient } from './lease-book.ts';
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

eachStore('those who come together are written together', async (t, store, { clock }) => {
  await seedSubnet(store);
  let transactions = 0;
  const counting: Store = {
    ...store,
    transaction: (work) => {
      transactions++;
      return store.transaction(work);
    },
  };
  const book = bookOf(counting, clock);
  const clients = [one, two, three];
  const offers = await Promise.all(clients.map((client) => book.offer(client)));
  transactions = 0;
  const results = await Promise.all(clients.map((client, index) => book.bind(client, offers[index]!.address)));
  t.same([results.map(({ kind }) => kind), transactions], [['bound', 'bound', 'bound'], 1]);
  t.equal((await leaseRows(store)).length, 3);
});

eachStore('of what one client does at once, the last is written', async (t, store, { clock }) => {
  await seedSubnet(store);
  const book = bookOf(store, clock);
  const { address } = (await book.offer(one))!;
  await Promise.all([book.bind(one, address), book.bind({ ...one, hostname: 'again' }, address)]);
  t.match(await leaseRows(store), [{ mac: one.mac, hostname: 'again', state: 'bound' }]);
  await Promise.all([book.bind(one, address), book.release(one, address)]);
  t.match(await leaseRows(store), [{ mac: one.mac, state: 'bound', expires_at: clock.now() }]);
});

eachStore(
  'a crowd that waits for the disk is limited, and known machines do not wait for it',
  async (t, store, { clock }) => {
    await seedSubnet(store, { leaseFirst: '10.77.0.50', leaseLast: '10.77.3.250' });
    await reserve(store, known.mac, '10.77.0.11');
    const gate = Promise.withResolvers<undefined>();
    let stuck = false;
    const slow: Store = {
      ...store,
      transaction: async (work) => {
        if (stuck) await gate.promise;
        return store.transaction(work);
      },
    };
    const book = bookOf(slow, clock);
    const strangers = Array.from({ length: 600 }, (_, index) => {
      const last = index.toString(16).padStart(4, '0').replace(/..$/, ':$&');
      return { mac: parseMac(`52:54:00:78:${last}`)! };
    });
    const offers = await Promise.all(strangers.map((client) => book.offer(client)));
    stuck = true;
    const crowd = strangers.map((client, index) =>
      book.bind(client, offers[index]!.address).then(
        ({ kind }) => kind as string,
        (error: unknown) => asRackstartError(error).code as string,
      ),
    );
    t.equal((await book.offer(known))?.address, '10.77.0.11');
    gate.resolve(undefined);
    const outcomes = await Promise.all(crowd);
    const count = (outcome: string) => outcomes.filter((one) => one === outcome).length;
    t.same([count('bound'), count('store.unavailable')], [384, 216]);
    t.equal((await leaseRows(store)).length, 384);
  },
);

eachStore('after a write that took long, everything else has its time before the next', async (t, store, { clock }) => {
  await seedSubnet(store);
  let took = 0;
  const slow: Store = {
    ...store,
    transaction: async (work) => {
      const result = await store.transaction(work);
      await clock.advance(took);
      return result;
    },
  };
  const book = bookOf(slow, clock);
  const { address } = (await book.offer(one))!;
  took = 7;
  await book.bind(one, address);
  const done = clock.now();
  const again = book.bind(one, address);
  while (clock.nextWake() === undefined) await new Promise((resolve) => setImmediate(resolve));
  t.equal(clock.nextWake(), done + 7);
  await clock.advance(7);
  t.equal((await again).kind, 'bound');
});

eachStore('a lease that could not be written is not told, and can be asked for again', async (t, store, { clock }) => {
  await seedSubnet(store, { leaseLast: '10.77.0.101' });
  let broken = false;
  const flaky: Store = {
    ...store,
    transaction: (work) =>
      broken ? Promise.reject(new RackstartError('store.unavailable', 'disk full')) : store.transaction(work),
  };
  const book = bookOf(flaky, clock);
  const renewing = await bound(book, two);
  const { address } = (await book.offer(one))!;
  await clock.advance(1);
  broken = true;
  await t.rejects(book.bind(one, address), { code: 'store.unavailable' });
  await t.rejects(book.bind(two, renewing), { code: 'store.unavailable' });
  await clock.advance(MINUTE);
  broken = false;
  t.equal((await book.offer(three))?.address, address, 'nobody has it');
  t.same(await book.bind(one, address), { kind: 'elsewhere' });
  await t.rejects(book.offer(four), { code: 'address.pool-empty' }, 'the other lease runs on');
  t.equal((await book.bind(two, renewing)).kind, 'bound');
});

eachStore(
  'only the last of two processes on one subnet writes leases, and each address once',
  async (t, store, { clock }) => {
    await seedSubnet(store);
    const [first, second] = [bookOf(store, clock), bookOf(store, clock)];
    const { address } = (await first.offer(one))!;
    await bound(second, two);
    const before = await leaseRows(store);
    await t.rejects(first.bind(one, address), { code: 'lease.fenced', details: { subnet: SUBNET } });
    await t.rejects(first.offer(one), { code: 'lease.fenced' });
    t.same(await leaseRows(store), before);
    t.equal((await second.bind(two, address)).kind, 'bound', 'it goes on');

    await clock.advance(SECOND);
    t.equal(await bound(first, one), '10.77.0.101', 'and the other begins anew, knowing what was written');
    await t.rejects(second.bind(two, address), { code: 'lease.fenced' });
    await clock.advance(SECOND);
    t.equal(await bound(second, two), address);
  },
);

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
