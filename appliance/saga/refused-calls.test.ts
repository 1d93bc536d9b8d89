import { test } from 'tap';

import { MINUTE, SECOND } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { GuardRules } from '../kernel/guard.ts';
import { Guards } from '../kernel/guard.ts';
import type { ManualClock } from '../kernel/manual-clock.ts';
import { eachStore, sqliteStore } from '../store/test-stores.ts';
import { planned, resourcePlan } from './resource-plan.ts';
import type { Resource } from './resource-plan.ts';
import { resourceStep } from './resource-step.ts';
import { exponentialRetry, nextTry } from './retry.ts';
import { bindSaga, saga } from './saga.ts';
import { done } from './step.ts';
import type { StepContext } from './step.ts';
import { begin, cancelled, row, steps } from './test-sagas.ts';
import type { AnyStep, Params } from './test-sagas.ts';

const rules: GuardRules = {
  ...{ inFlight: 10, waiting: 0, failures: 2, openFor: 10 * MINUTE, deadline: MINUTE },
  isFault: ({ code }) => code === 'bmc.unreachable',
};

eachStore(
  'a step waits for as long as its cluster is not called, and spends no try on it',
  async (t, store, { clock }) => {
    const { call, cluster } = deadCluster(clock);
    const runs: { at: number; tries: number }[] = [];
    const step: AnyStep<string> = {
      run: async (_, ctx) => {
        runs.push({ at: clock.now() - start, tries: ctx.tries });
        return done(await call(ctx));
      },
      undo: { noUndo: 'nothing is held' },
    };
    const definition = saga<Params, unknown>('test', 1).step('a', step).build();
    const process = begin(t, store, clock, [bindSaga(definition, {})]);
    const start = clock.now();
    const id = await process.start(definition, { subject: 's', params: { name: '' } });
    // The second failure opens the circuit; the cluster is mended long after the four tries of 35 s would be over.
    await process.runUntil(async () => runs.length === 3);
    t.match(await steps(store, id), [{ tries: 3, recheck_at: start + 5 * SECOND + 10 * MINUTE }]);
    t.match(JSON.parse((await steps(store, id))[0]!.error!), { code: 'provider.circuit-open', step: 'a' });
    cluster.dead = false;
    await process.runUntil(async () => (await row(store, id)).state === 'completed');
    t.same(runs, [
      { at: 0, tries: 1 },
      { at: 5 * SECOND, tries: 2 },
      { at: 15 * SECOND, tries: 3 },
      { at: 5 * SECOND + 10 * MINUTE, tries: 3 },
    ]);
  },
);

sqliteStore('an undo waits as well, instead of being stuck', async (t, store, { clock }) => {
  const { call, cluster } = deadCluster(clock);
  cluster.dead = false;
  let deletions = 0;
  const held: AnyStep = {
    run: async (_, ctx) => done(await call(ctx)),
    undo: async (_, _output, ctx) => {
      deletions += 1;
      await call(ctx);
      return done();
    },
  };
  const definition = saga<Params, unknown>('test', 1).step('a', held).build();
  const process = begin(t, store, clock, [bindSaga(definition, {})]);
  const id = await process.start(definition, { subject: 's', params: { name: '' } });
  await process.settle();
  cluster.dead = true;
  await store.transaction((tx) => process.sagas.turnBack(tx, id, cancelled));
  await process.runUntil(async () => deletions === 3);
  cluster.dead = false;
  await process.runUntil(async () => ['undone', 'stuck'].includes((await row(store, id)).state));
  t.match(await row(store, id), { state: 'undone' });
});

sqliteStore(
  'of two calls side by side, the one that failed counts, not the one that was refused',
  async (t, store, { clock }) => {
    const refusal = { details: { retryAt: clock.now() + MINUTE } };
    const resource = (error: RackstartError): Resource<undefined, string, unknown> => ({
      create: () => Promise.reject(error),
      find: () => Promise.resolve(undefined),
      delete: () => Promise.resolve(done()),
    });
    const refused = resource(new RackstartError('provider.circuit-open', 'not called', refusal));
    const failing = resource(new RackstartError('bmc.unreachable', 'no answer'));
    const plan = () => resourcePlan(planned('refused', refused, undefined), planned('failing', failing, undefined));
    const definition = saga<Params, unknown>('test', 1).step('a', resourceStep(plan)).build();
    const process = begin(t, store, clock, [bindSaga(definition, {})]);
    const id = await process.start(definition, { subject: 's', params: { name: '' } });
    await process.settle();
    t.match(await steps(store, id), [{ tries: 2, recheck_at: clock.now() + 5 * SECOND }]);
  },
);

test('a refusal is no failure, whoever may retry; a failure is one', (t) => {
  const retry = exponentialRetry(3);
  const never = { tries: 4, now: 1_000, retry, mayRetry: () => false };
  const busy = new RackstartError('provider.busy', 'too many', { details: { retryAt: 2_000 } });
  t.same(nextTry(busy, never), { at: 2_000, tries: 4 });
  const timeout = new RackstartError('provider.timeout', 'it hangs');
  t.equal(nextTry(timeout, never), undefined);
  t.same(nextTry(timeout, { ...never, tries: 3, mayRetry: () => true }), { at: 21_000, tries: 4 });
  t.equal(nextTry(timeout, { ...never, mayRetry: () => true }), undefined);
  t.end();
});

function deadCluster(clock: ManualClock) {
  const guard = new Guards(clock).of('bmc:north/r1', rules);
  const cluster = { dead: true };
  const answer = () =>
    cluster.dead ? Promise.reject(new RackstartError('bmc.unreachable', 'no answer')) : Promise.resolve('there');
  return { cluster, call: ({ signal }: StepContext<unknown>) => guard.run(answer, { signal }) };
}
