import { test } from 'tap';

import { Turnstile } from './turnstile.ts';

test('a few pass in each turn of the loop, in the order they came', async (t) => {
  const { turnstile, order, crowd } = open(2, 3);
  crowd(['a', 'b', 'c', 'd', 'e']);
  for (let turns = 0; order.length < 5; turns++) {
    t.equal(order.length, Math.min(5, 2 * turns), `${turns} turns`);
    await nextTurn();
  }
  t.same(order, ['a', 'b', 'c', 'd', 'e']);
  await turnstile.pass();
  t.pass('who comes when nobody waits any more passes in the next turn');
});

test('while it is held, one passes now and then', async (t) => {
  const { turnstile, order, crowd } = open(2, 3);
  crowd(['a', 'b', 'c', 'd']);
  const passed: number[] = [];
  for (let turn = 0; turn < 8; turn++) {
    turnstile.hold();
    await nextTurn();
    passed.push(order.length);
  }
  t.same(passed, [0, 0, 0, 1, 1, 1, 1, 2]);
  await nextTurn();
  t.same(order, ['a', 'b', 'c', 'd'], 'and all when nothing holds it any more');
});

function open(perTurn: number, patience: number) {
  const turnstile = new Turnstile(perTurn, patience);
  const order: string[] = [];
  const crowd = (names: string[]) => {
    for (const name of names) void turnstile.pass().then(() => order.push(name));
  };
  return { turnstile, order, crowd };
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
