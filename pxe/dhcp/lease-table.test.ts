import { test } from 'tap';

import { seededRandom } from '../../lab/loss/seeded-random.ts';
import type { Mac } from '../boot-client.ts';
import type { Lease } from './lease-table.ts';
import { LeaseTable } from './lease-table.ts';

const NOW = 1_000;
const [me, a, b, c] = ['me', 'a', 'b', 'c'] as Mac[] as [Mac, Mac, Mac, Mac];

test('a client keeps the address it has', async (t) => {
  t.equal(table(live(101, me), live(100, a)).choose(me, 102, NOW), 101);
});

test('a client that was away gets its old address back while nobody took it', async (t) => {
  t.equal(table(free(102, me, 5)).choose(me, 100, NOW), 102);
  const taken = table(free(102, me, 5), live(102, a));
  t.equal(taken.choose(me, undefined, NOW), 100);
  t.equal(taken.of(me), undefined);
});

test('a client gets the address it asks for when that is free', async (t) => {
  t.equal(table().choose(me, 102, NOW), 102);
  t.equal(table(live(102, a)).choose(me, 102, NOW), 100);
  t.equal(table(free(102, a, 5)).choose(me, 102, NOW), 102);
  t.equal(table(free(102, a, NOW)).choose(me, 102, NOW), 102, 'from the moment when it ends');
  t.equal(table().choose(me, 99, NOW), 100, 'not outside the range');
});

test('an address that nobody had comes before one that somebody may come back to', async (t) => {
  t.equal(table(free(100, a, 1), free(101, b, 2)).choose(me, undefined, NOW), 102);
});

test('of addresses that others had, the one free for longest goes first', async (t) => {
  t.equal(table(free(100, a, 7), free(101, b, 3), free(102, c, 5)).choose(me, undefined, NOW), 101);
});

test('a full range gives nothing', async (t) => {
  t.equal(table(live(100, a), live(101, b), declined(102, c)).choose(me, undefined, NOW), undefined);
  t.equal(new LeaseTable({ first: 100, last: 99 }).choose(me, undefined, NOW), undefined);
});

test('an address that rests is not given back to the client that declined it', async (t) => {
  const leases = table(declined(100, me));
  t.equal(leases.of(me), undefined);
  t.equal(leases.choose(me, 100, NOW), 101);
  t.equal(leases.choose(me, 100, NOW + 600), 100, 'until it has rested');
});

test('what is outside of the range, or nobody’s to lease, is not kept', async (t) => {
  const leases = new LeaseTable({ first: 100, last: 102 }, new Set([100]));
  for (const lease of [live(99, me), live(103, a), live(100, b)]) leases.put(lease);
  t.same([leases.of(me), leases.at(103), leases.of(b)], [undefined, undefined, undefined]);
  t.equal(leases.choose(me, 100, NOW), 101);
});

test('of a client that has got another address, the former is free when it ends, and not its own any longer', async (t) => {
  const leases = table(live(100, me), live(101, me));
  t.equal(leases.of(me)?.address, 101);
  leases.put(live(100, a));
  t.equal(leases.of(me)?.address, 101);
});

test('whatever happens to 50 addresses, the one that is free for longest is chosen', async (t) => {
  const random = seededRandom(5);
  const below = (limit: number) => Math.floor(random() * limit);
  const leases = new LeaseTable({ first: 0, last: 49 });
  const model = new Map<number, Lease>();
  const chosen: (number | undefined)[] = [];
  const expected: (number | undefined)[] = [];
  for (let now = 0; now < 5_000; now++) {
    const mac = `m${below(80)}` as Mac;
    const byEnd = [...model.values()].sort((one, other) => one.until - other.until);
    const own = byEnd.find((lease) => lease.mac === mac);
    const oldest = byEnd.find(({ until }) => until <= now);
    const address = leases.choose(mac, undefined, now);
    chosen.push(address);
    expected.push(own !== undefined ? own.address : model.size < 50 ? model.size : oldest?.address);
    if (address === undefined) continue;
    // No two end at once.
    const lease: Lease = { address, mac, state: 'bound', until: now + below(200) + random() };
    leases.put(lease);
    model.set(address, lease);
  }
  t.same(chosen, expected);
  t.ok(chosen.includes(undefined) && new Set(chosen).size === 51);
});

function table(...leases: Lease[]): LeaseTable {
  const made = new LeaseTable({ first: 100, last: 102 });
  for (const lease of leases) made.put(lease);
  return made;
}

function live(address: number, mac: Mac): Lease {
  return { address, mac, state: 'bound', until: NOW + 1 };
}

function free(address: number, mac: Mac, until: number): Lease {
  return { address, mac, state: 'bound', until };
}

function declined(address: number, mac: Mac): Lease {
  return { address, mac, state: 'declined', until: NOW + 600 };
}
