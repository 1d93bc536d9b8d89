import { test } from 'tap';

import { SequenceWindow } from './sequence-window.ts';

test('each number is new once, in any order within the window', async (t) => {
  const window = new SequenceWindow();
  for (const number of [1, 3, 2, 10, 4, 33]) t.ok(window.accept(number), `${number} is new`);
  for (const number of [1, 3, 2, 10, 4, 33]) t.notOk(window.accept(number), `${number} came already`);
});

test('what is more than 31 behind is too old to be told from a replay', async (t) => {
  const window = new SequenceWindow();
  t.ok(window.accept(100));
  t.ok(window.accept(69));
  t.notOk(window.accept(68));
});

test('a leap forward forgets nothing it should remember', async (t) => {
  const window = new SequenceWindow();
  t.ok(window.accept(1));
  t.ok(window.accept(32));
  t.notOk(window.accept(1));
  t.ok(window.accept(500));
  t.notOk(window.accept(500));
  t.notOk(window.accept(32));
});

test('numbers go on after the last one, without 0', async (t) => {
  const window = new SequenceWindow();
  t.ok(window.accept(0x7fff_ffff));
  t.ok(window.accept(0xffff_fffe));
  t.ok(window.accept(0xffff_ffff));
  t.notOk(window.accept(0));
  t.ok(window.accept(1));
  t.notOk(window.accept(0xffff_ffff));
});
