import { SECOND } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import { eachStore } from '../store/test-stores.ts';
import { bindSaga, saga } from './saga.ts';
import { done, wait } from './step.ts';
import type { Step } from './step.ts';
import { begin, cancelled, nothing, raise, row, steps, telling, twoSteps, waitingSaga } from './test-sagas.ts';
import type { AnyStep, Params } from './test-sagas.ts';

eachStore('a saga runs its steps in order, each with the outputs of those before it', async (t, store, { clock }) => {
  const first: Step<{ params: Params }, { id: number }, unknown> = {
    run: async ({ params }) => done({ id: params.name.length }),
    undo: nothing,
  };
  const second: Step<{ done: { first: { id: number } } }, string, unknown> = {
    run: async (input) => done(`got ${input.done.first.id}`),
    undo: nothing,
  };
  const definition = saga<Params, unknown>('test', 1).step('first', first).step('second', second).build();
  const process = begin(t, store, clock, [bindSaga(definition, {})]);
  const id = await process.start(definition, { subject: 's', params: { name: 'four' } });
  await process.settle();
  t.match(await row(store, id), { state: 'completed', owner: null, wake_at: null, reason: null });
  t.match(await steps(store, id), [
    { name: 'first', state: 'done', output: '{"id":4}', tries: 1 },
    { name: 'second', state: 'done', output: '"got 4"' },
  ]);
});

eachStore('steps of one stage run side by side, and the next stage sees them all', async (t, store, { clock }) => {
  const meeting = new Map<string, () => void>();
  const meets = (name: string): AnyStep<string> => ({
    run: async () => {
      // Neither ends before the other has begun.
      const met = new Promise<void>((resolve) => meeting.set(name, resolve));
      if (meeting.size === 2) for (const meet of meeting.values()) meet();
      await met;
      return done(name);
    },
    undo: nothing,
  });
  const last: Step<{ done: { a: string; b: string } }, string, unknown> = {
    run: async ({ done: { a, b } }) => done(a + b),
    undo: nothing,
  };
  const definition = saga<Params, unknown>('test', 1)
    .all({ a: meets('a'), b: meets('b') })
    .step('last', last)
    .build();
  const process = begin(t, store, clock, [bindSaga(definition, {})]);
  const id = await process.start(definition, { subject: 's', params: { name: '' } });
  await process.settle();
  t.match((await steps(store, id)).at(-1), { name: 'last', output: '"ab"' });
});

eachStore('a listener writes in the transaction of what it is told', async (t, store, { clock }) => {
  const told: string[] = [];
  const listener = telling(told);
  const { definition } = twoSteps();
  const process = begin(t, store, clock, [bindSaga(definition, {}, listener)]);
  const id = await process.start(definition, { subject: 'attempt_1', params: { name: '' } });
  await process.settle();
  t.same(told, ['a started', 'a done "A"', 'b started', 'b done "B"', 'completed']);
  t.equal(await store.transaction((tx) => process.sagas.turnBack(tx, id, cancelled)), true);
  await process.settle();
  t.same(told.slice(5), ['turned back: cancelled', 'undone: cancelled']);

  // A listener that fails takes the saga's own write with it.
  const failing = saga<Params, unknown>('failing', 1).step('a', twoSteps().a).build();
  const broken = { stepDone: () => Promise.reject(new Error('broken')) };
  const other = begin(t, store, clock, [bindSaga(failing, {}, broken)]);
  const failed = await other.start(failing, { subject: 's', params: { name: '' } });
  await other.settle();
  t.match(await steps(store, failed), [{ name: 'a', state: 'started', output: null }]);
});

eachStore('a transient error is tried again after 5, 10 and 20 s, and then undone', async (t, store, { clock }) => {
  const at: number[] = [];
  const undone: unknown[] = [];
  const flaky: AnyStep = {
    run: async (_, ctx) => {
      at.push(clock.now());
      t.equal(ctx.tries, at.length);
      throw new RackstartError('bmc.unreachable', 'no answer');
    },
    undo: async (_, output) => done(void undone.push(output ?? 'half done')),
  };
  const definition = saga<Params, unknown>('test', 1).step('before', twoSteps().a).step('flaky', flaky).build();
  const process = begin(t, store, clock, [bindSaga(definition, {})]);
  const start = clock.now();
  const id = await process.start(definition, { subject: 's', params: { name: '' } });
  await process.runUntil(async () => (await row(store, id)).state === 'undone');
  t.same(
    at.map((when) => (when - start) / SECOND),
    [0, 5, 15, 35],
  );
  t.same(undone, ['half done']);
  const reason = { code: 'bmc.unreachable', message: 'no answer', step: 'flaky' };
  t.same(JSON.parse((await row(store, id)).reason!), reason);
  t.match(await steps(store, id), [{ state: 'undone' }, { state: 'undone' }]);
});

eachStore(
  'an error that is not transient turns the saga back at once, newest step first',
  async (t, store, { clock }) => {
    const order: string[] = [];
    const step = (name: string, fail = false): AnyStep<string> => ({
      run: async () => {
        if (fail) throw new Error('a defect');
        return done(name);
      },
      undo: async (_, output) => done(void order.push(`${name} ${output ?? 'half done'}`)),
    });
    const definition = saga<Params, unknown>('test', 1)
      .step('a', step('a'))
      .step('b', step('b'))
      .step('c', step('c', true))
      .step('d', step('d'))
      .build();
    const process = begin(t, store, clock, [bindSaga(definition, {})]);
    const id = await process.start(definition, { subject: 's', params: { name: '' } });
    await process.settle();
    t.same(order, ['c half done', 'b b', 'a a'], 'd never started and is not undone');
    t.match(await row(store, id), { state: 'undone', wake_at: null, owner: null });
  },
);

eachStore('a failing step stops its neighbour, whose work is undone too', async (t, store, { clock }) => {
  const undone: string[] = [];
  const begun = Promise.withResolvers<undefined>();
  const failing: AnyStep = {
    run: () => begun.promise.then(() => Promise.reject(new Error('no'))),
    undo: async () => done(void undone.push('failing')),
  };
  const stopped: AnyStep = {
    run: async (_, { signal }) => {
      begun.resolve(undefined);
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
      throw signal.reason as Error;
    },
    undo: async () => done(void undone.push('stopped')),
  };
  const definition = saga<Params, unknown>('test', 1).all({ failing, stopped }).build();
  const process = begin(t, store, clock, [bindSaga(definition, {})]);
  const id = await process.start(definition, { subject: 's', params: { name: '' } });
  await process.settle();
  t.same(undone.sort(), ['failing', 'stopped']);
  t.match(JSON.parse((await row(store, id)).reason!), { code: 'internal', step: 'failing' });
});

eachStore('a waiting step is run again when its time has come, and no earlier', async (t, store, { clock }) => {
  const { definition, runs } = waitingSaga((ctx) => wait(ctx.startedAt + (runs.length === 1 ? 60 : 90) * SECOND), 3);
  const process = begin(t, store, clock, [bindSaga(definition, {})]);
  const start = clock.now();
  const id = await process.start(definition, { subject: 's', params: { name: '' } });
  await process.runUntil(async () => (await row(store, id)).state === 'completed');
  t.same(
    runs.map(({ at }) => (at - start) / SECOND),
    [0, 60, 90],
  );
  t.same(
    runs.map(({ waited }) => waited),
    [false, true, true],
  );
  t.same(
    runs.map(({ tries }) => tries),
    [1, 1, 1],
    'waiting is not failing',
  );
});

eachStore('a waiting step is woken by its event, not by others', async (t, store, { clock }) => {
  const { definition, runs } = waitingSaga(
    async (ctx) => wait(ctx.clock.now() + 3_600 * SECOND, { type: 'alert.raised', key: 'mine', since: 0 }),
    2,
  );
  const process = begin(t, store, clock, [bindSaga(definition, {})]);
  await process.start(definition, { subject: 's', params: { name: '' } });
  await process.settle();
  t.equal((await store.read.selectFrom('saga_waits').selectAll().execute()).length, 1);
  await raise(process, 'other');
  await process.settle();
  t.equal(runs.length, 1);
  await raise(process, 'mine');
  await process.settle();
  t.equal(runs.length, 2, 'without the clock');
  t.same(await store.read.selectFrom('saga_waits').selectAll().execute(), [], 'no wait is left behind');
});

eachStore('a wait for what has already happened is over at once, but only once', async (t, store, { clock }) => {
  const { definition, runs } = waitingSaga(
    async (ctx) => wait(ctx.clock.now() + 60 * SECOND, { type: 'alert.raised', key: 'mine', since: 0 }),
    4,
  );
  const process = begin(t, store, clock, [bindSaga(definition, {})]);
  await raise(process, 'mine');
  await process.settle();
  const id = await process.start(definition, { subject: 's', params: { name: '' } });
  const start = clock.now();
  await process.settle();
  t.equal(runs.length, 2, 'the same event does not wake it without end');
  await raise(process, 'mine');
  await process.settle();
  t.equal(runs.length, 3, 'another one does');
  await process.runUntil(async () => (await row(store, id)).state === 'completed');
  t.same(
    runs.map(({ at }) => (at - start) / SECOND),
    [0, 0, 0, 60],
  );
});

eachStore('an event that came while no runner was there wakes the saga of the next', async (t, store, { clock }) => {
  const { definition, runs } = waitingSaga(
    async (ctx) => wait(ctx.clock.now() + 3_600 * SECOND, { type: 'alert.raised', key: 'mine', since: 0 }),
    2,
  );
  const first = begin(t, store, clock, [bindSaga(definition, {})]);
  await first.start(definition, { subject: 's', params: { name: '' } });
  await first.settle();
  await first.end();
  await raise(first, 'mine');
  await first.settle();
  t.equal(runs.length, 1);
  await begin(t, store, clock, [bindSaga(definition, {})]).settle();
  t.equal(runs.length, 2);
});

eachStore('a step waiting to be tried again is not woken by its neighbour', async (t, store, { clock }) => {
  const start = clock.now();
  const at: number[] = [];
  const flaky: AnyStep = {
    run: async (_, { tries }) => {
      at.push((clock.now() - start) / SECOND);
      if (tries === 1) throw new RackstartError('bmc.unreachable', 'no answer');
      return done();
    },
    undo: nothing,
  };
  const restless: AnyStep = {
    run: async (_, ctx) => (clock.now() - start < 4 * SECOND ? wait(ctx.clock.now() + SECOND) : done()),
    undo: nothing,
  };
  const definition = saga<Params, unknown>('test', 1).all({ flaky, restless }).build();
  const process = begin(t, store, clock, [bindSaga(definition, {})]);
  const id = await process.start(definition, { subject: 's', params: { name: '' } });
  await process.runUntil(async () => (await row(store, id)).state === 'completed');
  t.same(at, [0, 5]);
});

eachStore('turning back a running saga lets its step settle before anything is undone', async (t, store, { clock }) => {
  const happened: string[] = [];
  const begun = Promise.withResolvers<undefined>();
  const slow: AnyStep = {
    run: async (_, { signal }) => {
      begun.resolve(undefined);
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
      happened.push('told to stop');
      await new Promise((resolve) => setImmediate(resolve));
      happened.push('settled');
      throw signal.reason as Error;
    },
    undo: async (_, output) => done(void happened.push(`undone ${JSON.stringify(output)}`)),
  };
  const definition = saga<Params, unknown>('test', 1).step('slow', slow).build();
  const told: string[] = [];
  const process = begin(t, store, clock, [bindSaga(definition, {}, telling(told))]);
  const id = await process.start(definition, { subject: 's', params: { name: '' } });
  await begun.promise;
  t.equal(await store.transaction((tx) => process.sagas.turnBack(tx, id, cancelled)), true);
  t.equal(await store.transaction((tx) => process.sagas.turnBack(tx, id, { ...cancelled, message: 'again' })), false);
  await process.settle();
  t.same(happened, ['told to stop', 'settled', 'undone undefined']);
  t.same(told, ['slow started', 'turned back: cancelled', 'undone: cancelled'], 'stopping is no failure');
  t.match(await row(store, id), { state: 'undone', reason: JSON.stringify(cancelled) });
});

eachStore('turning back a waiting saga does not wait for what it waits for', async (t, store, { clock }) => {
  const { definition } = waitingSaga((ctx) => wait(ctx.clock.now() + 3_600 * SECOND), 99);
  const process = begin(t, store, clock, [bindSaga(definition, {})]);
  const id = await process.start(definition, { subject: 's', params: { name: '' } });
  await process.settle();
  await store.transaction((tx) => process.sagas.turnBack(tx, id, cancelled));
  await process.settle();
  t.match(await row(store, id), { state: 'undone' });
});

eachStore(
  'an undo that keeps failing makes the saga stuck, until an operator retries it',
  async (t, store, { clock }) => {
    let broken = true;
    const tries: number[] = [];
    const { a } = twoSteps();
    const b: AnyStep = {
      run: async () => done(),
      undo: async (_, __, ctx) => {
        tries.push(ctx.tries);
        if (broken) throw new Error('the BMC is dead');
        return done();
      },
    };
    const undoneA: unknown[] = [];
    const first = { ...a, undo: async (_: unknown, output: string | undefined) => done(void undoneA.push(output)) };
    const definition = saga<Params, unknown>('test', 1).step('a', first).step('b', b).build();
    const told: string[] = [];
    const process = begin(t, store, clock, [bindSaga(definition, {}, telling(told))]);
    const id = await process.start(definition, { subject: 's', params: { name: '' } });
    await process.settle();
    await store.transaction((tx) => process.sagas.turnBack(tx, id, cancelled));
    await process.runUntil(async () => (await row(store, id)).state === 'stuck');
    t.same(tries, [1, 2, 3, 4], 'any error of an undo is tried again');
    t.equal(told.at(-1), 'stuck at b: the BMC is dead');
    t.same(undoneA, [], 'what came before is kept: it may still be in use');
    await process.settle();
    t.match(await process.events.read(0, 10), [
      { type: 'saga.stuck', key: 's', data: { sagaId: id, saga: 'test', step: 'b', message: 'the BMC is dead' } },
    ]);
    t.match(await row(store, id), { wake_at: null, owner: null });

    broken = false;
    t.equal(await store.transaction((tx) => process.sagas.retryStuck(tx, id)), true);
    await process.settle();
    t.match(await row(store, id), { state: 'undone' });
    t.same(undoneA, ['A']);
    t.equal(await store.transaction((tx) => process.sagas.retryStuck(tx, id)), false, 'it is not stuck any more');
  },
);

eachStore('an operator can skip an undo that will never succeed', async (t, store, { clock }) => {
  const { a } = twoSteps();
  const hopeless: AnyStep = { run: async () => done(), undo: () => Promise.reject(new Error('burnt')) };
  const definition = saga<Params, unknown>('test', 1).step('a', a).step('hopeless', hopeless).build();
  const process = begin(t, store, clock, [bindSaga(definition, {})]);
  const id = await process.start(definition, { subject: 's', params: { name: '' } });
  await process.settle();
  await store.transaction((tx) => process.sagas.turnBack(tx, id, cancelled));
  await process.runUntil(async () => (await row(store, id)).state === 'stuck');
  await store.transaction((tx) => process.sagas.skipStuck(tx, id));
  await process.settle();
  t.match(await row(store, id), { state: 'undone' });
  t.match(await steps(store, id), [
    { name: 'a', state: 'undone' },
    { name: 'hopeless', state: 'skipped' },
  ]);
});

eachStore('an undo may wait, too', async (t, store, { clock }) => {
  let asked = 0;
  const b: AnyStep = {
    run: async () => done(),
    undo: async (_, __, ctx) => (++asked < 3 ? wait(ctx.clock.now() + 2 * SECOND) : done()),
  };
  const definition = saga<Params, unknown>('test', 1).step('b', b).build();
  const process = begin(t, store, clock, [bindSaga(definition, {})]);
  const id = await process.start(definition, { subject: 's', params: { name: '' } });
  await process.settle();
  const start = clock.now();
  await store.transaction((tx) => process.sagas.turnBack(tx, id, cancelled));
  await process.runUntil(async () => (await row(store, id)).state === 'undone');
  t.equal(asked, 3);
  t.equal(clock.now() - start, 4 * SECOND);
});
