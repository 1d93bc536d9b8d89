import { test } from 'tap';

import { SECOND } from '../appliance/kernel/clock.ts';
import { ManualClock } from '../appliance/kernel/manual-clock.ts';
import { RateLimit } from './rate-limit.ts';
import { Sparingly } from './sparingly.ts';

const stepping = (times: number[]) => ({ now: () => times.shift()!, sleepUntil: () => Promise.reject(new Error()) });

test('each key has its own limit, and a new window a new one', async (t) => {
  const clock = new ManualClock();
  const limit = new RateLimit(clock, SECOND, 2);
  t.same([limit.allows('a'), limit.allows('a'), limit.allows('a'), limit.allows('b')], [true, true, false, true]);
  await clock.advance(SECOND - 1);
  t.notOk(limit.allows('a'));
  await clock.advance(1);
  t.ok(limit.allows('a'));
});

test('a thing is said once an interval, with the number of times it was not', async (t) => {
  const clock = new ManualClock();
  const sparingly = new Sparingly(clock, SECOND);
  const said: number[] = [];
  const say = () => sparingly.say((more) => said.push(more));
  for (let round = 0; round < 3; round++) say();
  await clock.advance(SECOND);
  say();
  t.same(said, [0, 2]);
});

test('a clock that is set back locks nobody out and silences nothing', async (t) => {
  const limit = new RateLimit(stepping([9_000_000, 9_000_001, 1_000]), SECOND, 1);
  t.same([limit.allows('a'), limit.allows('a'), limit.allows('a')], [true, false, true]);
  const sparingly = new Sparingly(stepping([9_000_000, 1_000]), SECOND);
  let said = 0;
  for (let round = 0; round < 2; round++) sparingly.say(() => said++);
  t.equal(said, 2);
});
