import { MINUTE, SECOND } from '../../appliance/kernel/clock.ts';
import { asRackstartError, RackstartError } from '../../appliance/kernel/errors.ts';
import type { Store } from '../../appliance/store/store.ts';
import { eachStore } from '../../appliance/store/test-stores.ts';
import { parseMac } from '../boot-client.ts';
import { bookOf, bound, clients } from './lease-book.fixture.ts';
import { leaseRows, reserve, seedSubnet, SUBNET } from './subnet.fixture.ts';

const [known, one, two, three, four] = clients;

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
