import { test } from 'tap';

import { ManualClock } from '../../kernel/manual-clock.ts';
import { CommandQueue } from './command-queue.ts';

const never = new AbortController().signal;

test('commands run one at a time, in the order of the calls', async (t) => {
  const queue = new CommandQueue(new ManualClock(), { burst: 10, perSecond: 1 });
  const seen: string[] = [];
  const gate = Promise.withResolvers<undefined>();
  const first = queue.run(async () => {
    seen.push('first begins');
    await gate.promise;
    seen.push('first ends');
  }, never);
  const second = queue.run(async () => seen.push('second'), never);
  gate.resolve(undefined);
  await Promise.all([first, second]);
  t.strictSame(seen, ['first begins', 'first ends', 'second']);
});

test('a burst goes out at once, what follows keeps to the rate', async (t) => {
  const clock = new ManualClock(0);
  const queue = new CommandQueue(clock, { burst: 3, perSecond: 10 });
  const sentAt: number[] = [];
  const all = Promise.all([1, 2, 3, 4, 5].map(() => queue.run(async () => sentAt.push(clock.now()), never)));
  await clock.advance(1_000);
  await all;
  t.strictSame(sentAt, [0, 0, 0, 100, 200]);
  await clock.advance(10_000);
  const after = Promise.all([1, 2, 3, 4].map(() => queue.run(async () => sentAt.push(clock.now()), never)));
  await clock.advance(1_000);
  await after;
  t.strictSame(sentAt.slice(5), [11_000, 11_000, 11_000, 11_100], 'rest earns one burst, not more');
});

test('a command that fails does not hold up the next', async (t) => {
  const queue = new CommandQueue(new ManualClock(), { burst: 10, perSecond: 1 });
  await t.rejects(
    queue.run(() => Promise.reject(new Error('no answer')), never),
    { message: 'no answer' },
  );
  t.equal(await queue.run(async () => 'answer', never), 'answer');
});

test('a caller who gives up while waiting leaves at once, and its command is never sent', async (t) => {
  const queue = new CommandQueue(new ManualClock(), { burst: 10, perSecond: 1 });
  const gate = Promise.withResolvers<undefined>();
  const first = queue.run(() => gate.promise, never);
  const abort = new AbortController();
  let sent = false;
  const second = queue.run(async () => {
    sent = true;
  }, abort.signal);
  abort.abort(new Error('enough'));
  await t.rejects(second, { message: 'enough' });
  gate.resolve(undefined);
  await first;
  t.equal(await queue.run(async () => 'third', never), 'third');
  t.notOk(sent);
});

test('a caller who gives up while the rate holds it back takes nothing from the rate', async (t) => {
  const clock = new ManualClock(0);
  const queue = new CommandQueue(clock, { burst: 1, perSecond: 1 });
  await queue.run(async () => undefined, never);
  const abort = new AbortController();
  const held = queue.run(async () => undefined, abort.signal);
  const next = queue.run(async () => clock.now(), never);
  abort.abort(new Error('enough'));
  await t.rejects(held, { message: 'enough' });
  await clock.advance(1_000);
  t.equal(await next, 1_000);
});
