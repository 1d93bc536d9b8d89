import { test } from 'tap';

import { SECOND } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import { sqliteStore } from '../store/test-stores.ts';
import { exponentialRetry } from './retry.ts';
import { bindSaga, saga } from './saga.ts';
import { done } from './step.ts';
import { TestProcess } from './test-process.ts';
import { begin, row, steps } from './test-sagas.ts';
import type { AnyStep, Params } from './test-sagas.ts';

const series = [5, 10, 20, 40, 80, 160, 300, 300].map((seconds) => seconds * SECOND);

test('eight retries come after 5, 10, 20 s and so on, at most 5 min; there is no ninth', (t) => {
  const retry = exponentialRetry(8);
  t.same([1, 2, 3, 4, 5, 6, 7, 8, 9].map(retry), [...series, undefined]);
  t.equal(exponentialRetry(100)(90), 300 * SECOND, 'however many were before');
  t.equal(exponentialRetry(0)(1), undefined, 'who wants none has none');
  t.end();
});

for (const what of ['a step', 'an undo'] as const) {
  sqliteStore(
    `${what} that is to be retried eight times is run at those times, and then given up`,
    async (t, store, { clock }) => {
      const at: number[] = [];
      const fail = () => {
        at.push(clock.now());
        return Promise.reject(new RackstartError('bmc.unreachable', 'no answer'));
      };
      const end = () => Promise.reject(new Error('a defect'));
      const step: AnyStep =
        what === 'a step' ? { run: fail, undo: { noUndo: 'holds nothing' } } : { run: end, undo: fail };
      const definition = saga<Params, unknown>('test', 1).step('a', step).build();
      const sagas = [bindSaga(definition, {})];
      const process = new TestProcess({ store, clock, sagas, owner: 'test', retry: exponentialRetry(8) });
      t.teardown(() => process.kill());
      process.run();
      const id = await process.start(definition, { subject: 's', params: { name: '' } });
      const last = what === 'a step' ? 'undone' : 'stuck';
      await process.runUntil(async () => (await row(store, id)).state === last);
      t.same(
        at.slice(1).map((when, index) => when - at[index]!),
        series,
      );
      t.match(await steps(store, id), [{ state: last, ...(what === 'an undo' ? { tries: 9 } : {}) }]);
    },
  );
}

sqliteStore(
  'a step that our own database fails waits for it, however often, and spends no try',
  async (t, store, { clock }) => {
    const runs: number[] = [];
    const step: AnyStep = {
      run: async (_, { tries }) => {
        runs.push(tries);
        if (runs.length <= 6) throw new RackstartError('store.unavailable', 'no connection is left');
        return done();
      },
      undo: { noUndo: 'holds nothing' },
    };
    const definition = saga<Params, unknown>('test', 1).step('a', step).build();
    const process = begin(t, store, clock, [bindSaga(definition, {})]);
    const start = clock.now();
    const id = await process.start(definition, { subject: 's', params: { name: '' } });
    await process.runUntil(async () => (await row(store, id)).state !== 'running');
    t.match(await row(store, id), { state: 'completed' });
    t.same(runs, [1, 1, 1, 1, 1, 1, 1]);
    t.equal(clock.now() - start, 6 * 5 * SECOND);
  },
);
