import type { Test } from 'tap';

import { createEventLog } from '../events/event-log.ts';
import { Sequencer } from '../events/sequencer.ts';
import type { Clock, Millis } from '../kernel/clock.ts';
import { HOUR, MINUTE, SECOND, systemClock } from '../kernel/clock.ts';
import { createIds } from '../kernel/ids.ts';
import { silentLog } from '../kernel/log.ts';
import { SteadyClock } from '../kernel/steady-clock.ts';
import { ClockFollower } from '../store/clock-follower.ts';
import type { Store } from '../store/store.ts';
import { postgresStore } from '../store/test-stores.ts';
import { bindSaga, saga } from './saga.ts';
import { SagaRunner } from './saga-runner.ts';
import { Sagas } from './sagas.ts';
import { done, wait } from './step.ts';

const LEASE = 30 * SECOND;

for (const [name, skew] of [
  ['an hour ahead', HOUR],
  ['an hour back', -HOUR],
  ['seven minutes ahead', 7 * MINUTE],
] as const) {
  postgresStore(
    `two workers, one of whose hosts is ${name}: no lease is stolen, no deadline passes early`,
    async (t, store) => {
      const [a, b] = [await worker(t, store, host(0)), await worker(t, store, host(skew))];
      const outcome = await played(store, a, b);
      t.same(outcome, { runs: 1, epoch: 1, state: 'completed', by: 'a' });
    },
  );
}

postgresStore(
  'a host that is set an hour ahead, and two hours back, while it works: nothing is cut short',
  async (t, store) => {
    const moving = host(0);
    const [a, b] = [await worker(t, store, moving), await worker(t, store, host(0))];
    const outcome = await played(store, a, b, async () => {
      for (const step of [HOUR, -2 * HOUR]) {
        moving.step(step);
        await b.elsewhere();
      }
    });
    t.same(outcome, { runs: 1, epoch: 1, state: 'completed', by: 'a' });
  },
);

postgresStore('clocks that only follow their hosts would let a lease be stolen', async (t, store) => {
  const ahead = host(HOUR);
  const plain: Clock = {
    now: () => ahead.wall(),
    sleepUntil: (at, signal) => systemClock.sleepUntil(at - HOUR, signal),
  };
  const [a, b] = [await worker(t, store, host(0)), await worker(t, store, ahead, plain)];
  const outcome = await played(store, a, b);
  t.match(outcome, { runs: 2 });
  t.not(outcome.epoch, 1);
});

type Worker = Awaited<ReturnType<typeof worker>>;

/** `a` begins a step with a deadline, and is at it while `b` looks for work, again and again. */
async function played(store: Store, a: Worker, b: Worker, meanwhile = () => b.elsewhere()) {
  a.run();
  const id = await a.start('long');
  await a.begun(id);
  b.run();
  await meanwhile();
  await b.elsewhere();
  for (const worker of [a, b]) worker.finish(id);
  const { state, epoch } = await ended(store, id);
  const [by] = a.done.includes(id) ? ['a'] : ['b'];
  return { runs: a.runs(id) + b.runs(id), epoch, state, by };
}

async function worker(t: Test, store: Store, time: ReturnType<typeof host>, given?: Clock) {
  const steady = new SteadyClock(time);
  const clock = given ?? steady;
  const follower = new ClockFollower({ store, clock: steady, log: silentLog }, { period: 10 });
  if (given === undefined) await follower.begin();
  const ids = createIds(clock);
  const log = silentLog;
  const sequencer = new Sequencer({ store, clock, log }, { period: 20 });
  const events = createEventLog({ store, clock, ids, sequencer });
  const sagas = new Sagas({ clock, ids });
  const ran: string[] = [];
  const finished: string[] = [];
  const open = new Map<string, PromiseWithResolvers<undefined>>();
  const gate = (id: string) => {
    const known = open.get(id) ?? Promise.withResolvers<undefined>();
    open.set(id, known);
    return known;
  };
  const begun = new Map<string, () => void>();
  const definition = saga<{ kind: string }, undefined>('clock-steps', 1)
    .step('work', {
      run: async ({ params }, ctx) => {
        ran.push(ctx.sagaId);
        begun.get(ctx.sagaId)?.();
        if (params.kind === 'long') {
          await gate(ctx.sagaId).promise;
          // As every deadline of a provider: from when the step began, on whatever worker that was.
          if (ctx.clock.now() > ctx.startedAt + 5 * MINUTE) throw new Error('too late');
        } else if (!ctx.waited) return wait(ctx.clock.now() + 10);
        finished.push(ctx.sagaId);
        return done();
      },
      undo: { noUndo: 'a test' },
    })
    .build();
  const options = { owner: ids.next('worker'), sagas: [bindSaga(definition, undefined)], lease: LEASE, period: 20 };
  const runner = new SagaRunner({ store, events, sagas, clock, log }, options);
  const end = new AbortController();
  let running: Promise<unknown> = Promise.resolve();
  t.teardown(async () => {
    for (const { resolve } of open.values()) resolve(undefined);
    end.abort();
    await running;
  });
  const start = (kind: string) =>
    store.transaction((tx) => sagas.start(tx, definition, { subject: ids.next('subject'), params: { kind } }));
  return {
    run: () => void (running = Promise.all([runner, sequencer, follower].map((service) => service.run(end.signal)))),
    start,
    done: finished as readonly string[],
    runs: (id: string) => ran.filter((each) => each === id).length,
    finish: (id: string) => gate(id).resolve(undefined),
    begun: (id: string) => new Promise<void>((resolve) => (ran.includes(id) ? resolve() : begun.set(id, resolve))),
    /** It looks for work, and finds other than what is under way, eight times. */
    async elsewhere() {
      for (let round = 0; round < 8; round += 1) await ended(store, await start('short'));
    },
  };
}

async function ended(store: Store, id: string) {
  for (;;) {
    const row = await store.read.selectFrom('sagas').selectAll().where('id', '=', id).executeTakeFirstOrThrow();
    if (row.ended_at !== null || row.state === 'stuck') return row;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** A host whose clock is off, and may be set. */
function host(skew: Millis) {
  let off = skew;
  return {
    wall: () => Date.now() + off,
    monotonic: () => performance.now(),
    step: (by: Millis) => void (off += by),
  };
}
