import { test } from 'tap';

import type { Taken } from './allocate.ts';
import { chooseAddress } from './allocate.ts';

const range = { first: 100, last: 102 };
const me = { mac: 'me' };

test('a client keeps the address it has', async (t) => {
  t.equal(chooseAddress(range, [live(101, 'me'), live(100, 'a')], { mac: 'me', requested: 102 }), 101);
});

test('a client that was away gets its old address back while nobody took it', async (t) => {
  t.equal(chooseAddress(range, [free(102, 'me', 5)], { mac: 'me', requested: 100 }), 102);
  t.equal(chooseAddress(range, [live(102, 'a')], me), 100);
});

test('a live lease beats an old one', async (t) => {
  t.equal(chooseAddress(range, [free(100, 'me', 5), live(101, 'me')], me), 101);
});

test('a client gets the address it asks for when that is free', async (t) => {
  t.equal(chooseAddress(range, [], { mac: 'me', requested: 102 }), 102);
  t.equal(chooseAddress(range, [live(102, 'a')], { mac: 'me', requested: 102 }), 100);
  t.equal(chooseAddress(range, [free(102, 'a', 5)], { mac: 'me', requested: 102 }), 102);
  t.equal(chooseAddress(range, [], { mac: 'me', requested: 99 }), 100, 'not outside the range');
});

test('an address that nobody had comes before one that somebody may come back to', async (t) => {
  t.equal(chooseAddress(range, [free(100, 'a', 1), free(101, 'b', 2)], me), 102);
});

test('of addresses that others had, the one free for longest goes first', async (t) => {
  t.equal(chooseAddress(range, [free(100, 'a', 7), free(101, 'b', 3), free(102, 'c', 5)], me), 101);
});

test('a full range gives nothing, and ends', async (t) => {
  t.equal(chooseAddress(range, [live(100, 'a'), live(101, 'b'), live(102, undefined)], me), undefined);
  t.equal(chooseAddress({ first: 100, last: 99 }, [], me), undefined);
});

test('an address that rests is not given back to the client that declined it', async (t) => {
  t.equal(chooseAddress(range, [live(100, undefined)], { mac: 'me', requested: 100 }), 101);
});

test('what is outside the range does not count', async (t) => {
  t.equal(chooseAddress(range, [live(99, 'me'), live(103, 'a')], me), 100);
});

function live(address: number, mac: string | undefined): Taken {
  return { address, mac, live: true, since: Infinity };
}

function free(address: number, mac: string, since: number): Taken {
  return { address, mac, live: false, since };
}
