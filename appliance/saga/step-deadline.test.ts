import { SECOND } from '../kernel/clock.ts';
import { sqliteStore } from '../store/test-stores.ts';
import { bindSaga, saga } from './saga.ts';
import { STEP_DEADLINE, STEP_GRACE } from './step-deadline.ts';
import { done } from './step.ts';
import type { StepContext } from './step.ts';
import { cancelled, row, steps } from './test-sagas.ts';
import type { AnyStep, Params } from './test-sagas.ts';
import { TestProcess } from './test-process.ts';
import type { Store } from '../store/store.ts';
import { WatchedStore } from '../store/watched-store.fixture.ts';
import type { ManualClock } from '../kernel/manual-clock.ts';
import type { Test } from 'tap';

/** The one step of a saga: each run of it, and of its undo, is answered by the next of these. */
type Answer = (ctx: StepContext<unknown>) => Promise<unknown>;

const hangs: Answer = () => new Promise(() => undefined);
const heeds: Answer = ({ signal }) =>
  new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)));
const ends: Answer = () => Promise.resolve();

for (const [what, hanging] of Object.entries({ 'heeds its signal': heeds, 'heeds nothing': hangs })) {
  sqliteStore(`a step that hangs and ${what} is run again, and the saga completes`, async (t, store, { clock }) => {
    const { process, id } = await begin(t, store, clock, [hanging, ends]);
    await clock.advance(STEP_DEADLINE - SECOND);
    t.match(await steps(store, id), [{ state: 'started', tries: 1 }], 'it is given its time');
    await clock.advance(SECOND + STEP_GRACE + 5 * SECOND);
    await process.runUntil(async () => (await row(store, id)).state === 'completed');
    t.match(await steps(store, id), [{ state: 'done', tries: 2 }]);
  });

  sqliteStore(
    `a saga whose step hangs and ${what} is turned back at once when it is asked to be`,
    async (t, store, { clock }) => {
      const { process, id } = await begin(t, store, clock, [hanging, ends]);
      await store.transaction((tx) => process.sagas.turnBack(tx, id, cancelled));
      await clock.advance(STEP_GRACE + SECOND);
      await process.runUntil(async () => (await row(store, id)).state === 'undone');
    },
  );

  sqliteStore(`an undo that hangs and ${what} is run again, and in the end is stuck`, async (t, store, { clock }) => {
    const { process, id } = await begin(t, store, clock, [ends, hanging, hanging, hanging, hanging]);
    await process.runUntil(async () => (await row(store, id)).state === 'completed');
    await store.transaction((tx) => process.sagas.turnBack(tx, id, cancelled));
    await clock.advance(4 * (STEP_DEADLINE + STEP_GRACE) + 60 * SECOND);
    await process.runUntil(async () => (await row(store, id)).state === 'stuck');
    t.match(JSON.parse((await steps(store, id))[0]?.error ?? ''), { code: 'saga.step-late' });
  });
}

sqliteStore('a run that is waited for no longer writes nothing', async (t, store, { clock }) => {
  const late = Promise.withResolvers<undefined>();
  let fate: Promise<unknown> = Promise.resolve();
  const writes: Answer = async (ctx) => {
    await late.promise;
    fate = ctx.transaction((tx) => tx.updateTable('sagas').set({ subject: 'overwritten' }).execute());
    await fate;
  };
  const { process, id } = await begin(t, store, clock, [writes, ends]);
  await clock.advance(STEP_DEADLINE + STEP_GRACE + 5 * SECOND);
  await process.runUntil(async () => (await row(store, id)).state === 'completed');
  late.resolve(undefined);
  await process.settle();
  await t.rejects(fate, { code: 'saga.fenced' });
  t.equal((await row(store, id)).subject, 's');
});

async function begin(t: Test, store: Store, clock: ManualClock, answers: readonly Answer[]) {
  let runs = 0;
  const next = async (ctx: StepContext<unknown>) => {
    runs += 1;
    await answers[runs - 1]?.(ctx);
    return done();
  };
  const step: AnyStep<void> = { run: (_, ctx) => next(ctx), undo: (_input, _output, ctx) => next(ctx) };
  const definition = saga<Params, unknown>('hanging', 1).step('only', step).build();
  const sagas = [bindSaga(definition, undefined)];
  const watched = new WatchedStore(store);
  const process = new TestProcess({ store: watched, clock, sagas, owner: 'test', mayHang: () => !watched.writing });
  process.run();
  t.teardown(() => process.kill());
  const id = await process.start(definition, { subject: 's', params: { name: 'p' } });
  await process.settle();
  return { process, id };
}
