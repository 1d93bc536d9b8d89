import type { SubnetRow } from '../store/schema.ts';
import type { Store } from '../store/store.ts';
import { eachStore } from '../store/test-stores.ts';
import { holdAddress, releaseAddresses, setAddressesAside } from './ipam.ts';

const holder = (id: string) => ({ kind: 'attempt', id, tenantId: null }) as const;

eachStore('the lowest free address is held, and one that was given back is free again', async (t, store) => {
  const subnet = await insertSubnet(store, { gateway: '10.0.0.11' });
  const hold = (id: string) => store.transaction((tx) => holdAddress(tx, subnet, 'servers', holder(id), 1));
  t.same([await hold('a'), await hold('b')], ['10.0.0.10', '10.0.0.12'], 'never the gateway');
  await store.transaction((tx) => releaseAddresses(tx, holder('a')));
  t.equal(await hold('c'), '10.0.0.10');
});

eachStore('of many at once each gets an address of its own, until there is none', async (t, store) => {
  const subnet = await insertSubnet(store, {});
  const answers = await Promise.allSettled(
    Array.from({ length: 15 }, (_, index) =>
      store.transaction((tx) => holdAddress(tx, subnet, 'servers', holder(`a${index}`), 1)),
    ),
  );
  const held = answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : []));
  t.equal(held.length, 11);
  t.equal(new Set(held).size, 11);
  for (const answer of answers) {
    if (answer.status === 'rejected')
      t.match(answer.reason, { code: 'address.pool-empty', details: { subnet: '10.0.0.0/24' } });
  }
});

eachStore('pools do not reach into each other, and a subnet without reservations has none', async (t, store) => {
  const subnet = await insertSubnet(store, { reserved_first: '10.0.0.200', reserved_last: '10.0.0.200' });
  const hold = (pool: 'servers' | 'reservations', of = subnet) =>
    store.transaction((tx) => holdAddress(tx, of, pool, holder('a'), 1));
  t.equal(await hold('reservations'), '10.0.0.200');
  await t.rejects(hold('reservations'), { code: 'address.pool-empty' });
  t.equal(await hold('servers'), '10.0.0.10');
  await t.rejects(hold('reservations', { ...subnet, reserved_first: null }), { code: 'address.pool-empty' });
});

eachStore('a server walks past reservations that its pool has grown over', async (t, store) => {
  const reserved = { reserved_first: '10.0.0.10', reserved_last: '10.0.0.12' };
  const subnet = await insertSubnet(store, { ...reserved, server_first: '10.0.0.13' });
  const hold = (pool: 'servers' | 'reservations', kind: 'attempt' | 'nic', of = subnet) =>
    store.transaction((tx) => holdAddress(tx, of, pool, { kind, id: 'a', tenantId: null }, 1));
  t.same([await hold('reservations', 'nic'), await hold('reservations', 'nic')], ['10.0.0.10', '10.0.0.11']);
  t.equal(await hold('servers', 'attempt'), '10.0.0.13');
  const grown = { ...subnet, server_first: '10.0.0.10' };
  t.equal(await hold('servers', 'attempt', grown), '10.0.0.12');
  t.equal(await hold('servers', 'attempt', grown), '10.0.0.14');
});

eachStore('an address set aside is nobody else’s, and no tenant’s', async (t, store) => {
  const subnet = await insertSubnet(store, { server_last: '10.0.0.10' });
  await store.transaction((tx) => holdAddress(tx, subnet, 'servers', holder('a'), 1));
  await store.transaction((tx) => setAddressesAside(tx, 'a', 'mch_1'));
  await t.rejects(
    store.transaction((tx) => holdAddress(tx, subnet, 'servers', holder('b'), 1)),
    { code: 'address.pool-empty' },
  );
  await store.transaction((tx) => releaseAddresses(tx, holder('a')));
  t.match(await store.read.selectFrom('addresses').selectAll().execute(), [
    { holder_kind: 'set-aside', holder_id: 'mch_1', tenant_id: null },
  ]);
});

eachStore('an IPv6 pool of any size is walked by what is held', async (t, store) => {
  const ends = { server_first: '2001:db8::10', server_last: '2001:db8::ffff:ffff:ffff' };
  const subnet = await insertSubnet(store, { family: 6, cidr: '2001:db8::/64', gateway: '2001:db8::1', ...ends });
  const hold = (id: string) => store.transaction((tx) => holdAddress(tx, subnet, 'servers', holder(id), 1));
  t.same([await hold('a'), await hold('b')], ['2001:db8::10', '2001:db8::11']);
});

async function insertSubnet(store: Store, traits: Partial<SubnetRow>): Promise<SubnetRow> {
  const subnet: SubnetRow = {
    id: 'net1',
    region_id: 'reg1',
    role: 'both',
    family: 4,
    cidr: '10.0.0.0/24',
    gateway: '10.0.0.1',
    dns: '[]',
    server_first: '10.0.0.10',
    server_last: '10.0.0.20',
    reserved_first: null,
    reserved_last: null,
    lease_first: null,
    lease_last: null,
    ...traits,
  };
  await store.transaction(async (tx) => {
    await tx.insertInto('regions').values({ id: 'reg1', name: 'north' }).execute();
    await tx.insertInto('subnets').values(subnet).execute();
  });
  return subnet;
}
