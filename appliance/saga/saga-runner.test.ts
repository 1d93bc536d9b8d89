import { SECOND } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import { silentLog } from '../kernel/log.ts';
import { ManualClock } from '../kernel/manual-clock.ts';
import type { Store } from '../store/store.ts';
import { eachStore, sqliteStore } from '../store/test-stores.ts';
import { SagaRunner } from './saga-runner.ts';
import { bindSaga, saga } from './saga.ts';
import { done } from './step.ts';
import { begin, nothing, row, steps, telling, twoSteps } from './test-sagas.ts';
import type { AnyStep, Params } from './test-sagas.ts';

eachStore('a saga of an unknown version is left alone', async (t, store, { clock }) => {
  const old = saga<Params, unknown>('test', 1).step('a', twoSteps().a).build();
  const process = begin(t, store, clock, [bindSaga({ ...old, version: 2 }, {})]);
  const id = await process.start(old, { subject: 's', params: { name: '' } });
  await process.settle();
  t.match(await row(store, id), { state: 'running', epoch: 0 });
  const id2 = await process.start({ ...old, version: 2 }, { subject: 's', params: { name: '' } });
  await process.settle();
  t.match(await row(store, id2), { state: 'completed' });
});

eachStore('a runner that ends gives back what it holds, after its steps have settled', async (t, store, { clock }) => {
  const begun = Promise.withResolvers<undefined>();
  const gate = Promise.withResolvers<undefined>();
  const slow: AnyStep = {
    run: async () => {
      begun.resolve(undefined);
      await gate.promise;
      return done();
    },
    undo: nothing,
  };
  const definition = saga<Params, unknown>('test', 1).step('slow', slow).step('next', twoSteps().a).build();
  const process = begin(t, store, clock, [bindSaga(definition, {})]);
  const id = await process.start(definition, { subject: 's', params: { name: '' } });
  await begun.promise;
  const ended = process.end();
  gate.resolve(undefined);
  await ended;
  t.match(await row(store, id), { state: 'running', owner: null });
  t.match(await steps(store, id), [{ name: 'slow', state: 'done' }], 'no other step was begun');
  await begin(t, store, clock, [bindSaga(definition, {})]).settle();
  t.match(await row(store, id), { state: 'completed' }, 'the next runner goes on at once');
});

eachStore('a step that outlasts the grace is told to stop, which is no failure', async (t, store, { clock }) => {
  const begun = Promise.withResolvers<undefined>();
  let runs = 0;
  const slow: AnyStep = {
    run: async (_, { signal }) => {
      if (++runs === 2) return done();
      begun.resolve(undefined);
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
      throw signal.reason as Error;
    },
    undo: nothing,
  };
  const definition = saga<Params, unknown>('test', 1).step('slow', slow).build();
  const process = begin(t, store, clock, [bindSaga(definition, {})]);
  const id = await process.start(definition, { subject: 's', params: { name: '' } });
  await begun.promise;
  // The grace begins when the runner hears of its end, which it does in its sleep until the next look.
  while (clock.nextWake() !== clock.now() + 5 * SECOND) await new Promise((resolve) => setImmediate(resolve));
  const ended = process.end();
  await clock.advance(29 * SECOND);
  t.match(await row(store, id), { owner: 'test' });
  await clock.advance(SECOND);
  await ended;
  t.match(await row(store, id), { state: 'running', owner: null });
  t.match(await steps(store, id), [{ state: 'started', tries: 1, error: null }]);
  await begin(t, store, clock, [bindSaga(definition, {})]).settle();
  t.match(await row(store, id), { state: 'completed' });
});

eachStore('an expired lease is taken over, and the old owner is fenced out', async (t, store, { clock }) => {
  const begun = Promise.withResolvers<undefined>();
  const gate = Promise.withResolvers<undefined>();
  let fenced: unknown;
  let runs = 0;
  const told: string[] = [];
  const slow: AnyStep<number> = {
    run: async (_, ctx) => {
      const run = ++runs;
      if (run === 2) return done(run);
      begun.resolve(undefined);
      await gate.promise;
      fenced = await ctx.transaction(async () => 'written').catch((error: unknown) => error);
      return done(run);
    },
    undo: nothing,
  };
  const definition = saga<Params, unknown>('test', 1).step('slow', slow).build();
  // The old owner's clock stands still, as in a process that is stopped: it doesn't renew its lease.
  const old = begin(t, store, new ManualClock(clock.now()), [bindSaga(definition, {}, telling(told))], 'old');
  const id = await old.start(definition, { subject: 's', params: { name: '' } });
  await begun.promise;
  const heir = begin(t, store, clock, [bindSaga(definition, {}, telling(told))], 'heir');
  await heir.settle();
  t.equal(runs, 1, 'a lease that has not expired is respected');
  await heir.runUntil(async () => (await row(store, id)).state === 'completed');
  t.equal(runs, 2);
  gate.resolve(undefined);
  await old.settle();
  t.match(fenced, { code: 'saga.fenced' });
  t.match(await steps(store, id), [{ state: 'done', output: '2' }]);
  t.same(told, ['slow started', 'slow done 2', 'completed'], 'told once');
});

eachStore('a worker that stood still for longer than its lease does not act under it', async (t, store, { clock }) => {
  const effects: string[] = [];
  const begun = Promise.withResolvers<undefined>();
  const calling = (owner: string) => {
    const step: AnyStep = {
      run: async (_, ctx) => {
        begun.resolve(undefined);
        await ctx.clock.sleepUntil(ctx.clock.now() + SECOND, ctx.signal);
        // A call is sent when there is a connection for it.
        await new Promise((resolve) => setImmediate(resolve));
        ctx.signal.throwIfAborted();
        effects.push(owner);
        return done();
      },
      undo: nothing,
    };
    return saga<Params, unknown>('test', 1).step('call', step).build();
  };
  const standing = new ManualClock(clock.now());
  const old = begin(t, store, standing, [bindSaga(calling('old'), {})], 'old');
  const id = await old.start(calling('old'), { subject: 's', params: { name: '' } });
  await begun.promise;
  begin(t, store, clock, [bindSaga(calling('heir'), {})], 'heir');
  while ((await row(store, id)).state !== 'completed') await clock.advance(SECOND);
  standing.jump(clock.now() - standing.now());
  await old.settle();
  t.same(effects, ['heir']);
});

eachStore('a lease is renewed as long as its step takes', async (t, store, { clock }) => {
  const begun = Promise.withResolvers<undefined>();
  const gate = Promise.withResolvers<undefined>();
  let runs = 0;
  const slow: AnyStep = {
    run: async () => {
      runs += 1;
      begun.resolve(undefined);
      await gate.promise;
      return done();
    },
    undo: nothing,
  };
  const definition = saga<Params, unknown>('test', 1).step('slow', slow).build();
  const process = begin(t, store, clock, [bindSaga(definition, {})], 'owner');
  const other = begin(t, store, clock, [bindSaga(definition, {})], 'other');
  const id = await process.start(definition, { subject: 's', params: { name: '' } });
  await begun.promise;
  const end = clock.now() + 120 * SECOND;
  while (clock.now() < end) {
    const expires = (await row(store, id)).lease_expires_at;
    // A database that is slow to renew it holds time up.
    if (expires > clock.now() + SECOND) await clock.advance(SECOND);
    else await new Promise((resolve) => setImmediate(resolve));
  }
  t.equal(runs, 1);
  gate.resolve(undefined);
  await process.settle();
  await other.settle();
  t.match(await row(store, id), { state: 'completed', epoch: 1 });
});

eachStore('two runners share 50 sagas, and each effect happens once', async (t, store, { clock }) => {
  const effects = new Map<string, number>();
  const effect = (): AnyStep => ({
    run: async (_, ctx) => {
      effects.set(ctx.key, (effects.get(ctx.key) ?? 0) + 1);
      await new Promise((resolve) => setImmediate(resolve));
      return done();
    },
    undo: nothing,
  });
  const definition = saga<Params, unknown>('test', 1).step('a', effect()).all({ b: effect(), c: effect() }).build();
  const owners = ['one', 'two'].map((owner) => begin(t, store, clock, [bindSaga(definition, {})], owner, { limit: 7 }));
  const [one] = owners;
  const ids = await Promise.all(
    Array.from({ length: 50 }, (_, index) => one!.start(definition, { subject: `${index}`, params: { name: '' } })),
  );
  const ended = async () => {
    const rows = await store.read.selectFrom('sagas').select('id').where('state', '=', 'completed').execute();
    return rows.length === 50;
  };
  await Promise.all(owners.map((owner) => owner.runUntil(ended)));
  t.equal(effects.size, 150);
  t.same([...new Set(effects.values())], [1]);
  t.same(new Set(await Promise.all(ids.map(async (id) => (await row(store, id)).epoch))), new Set([1]));
});

eachStore('a sole owner takes the leases of a killed process at once', async (t, store, { clock }) => {
  const { definition } = twoSteps();
  const dying = begin(t, store, clock, [bindSaga(definition, {})], 'same name', {}, (what) => {
    if (what === 'write') points += 1;
    if (points === 3) dying.kill();
  });
  let points = 0;
  const id = await dying.start(definition, { subject: 's', params: { name: '' } });
  await dying.settle();
  t.match(await row(store, id), { state: 'running', owner: 'same name' });
  const cautious = begin(t, store, clock, [bindSaga(definition, {})], 'same name');
  await cautious.settle();
  t.match(await row(store, id), { state: 'running' }, 'the same name alone is no proof');
  cautious.kill();
  await begin(t, store, clock, [bindSaga(definition, {})], 'same name', { soleOwner: true }).settle();
  t.match(await row(store, id), { state: 'completed', epoch: 2 });
});

sqliteStore('a runner that cannot read its store rests until its next look', async (t, store, { clock }) => {
  let looks = 0;
  const away: Store = {
    ...{ dialect: store.dialect, transaction: (work) => store.transaction(work), close: () => store.close() },
    get read() {
      looks += 1;
      if (looks > 2) return store.read;
      throw new RackstartError('store.unavailable', 'It is away.');
    },
  };
  const { definition } = twoSteps();
  const process = begin(t, store, clock, []);
  const { events, sagas } = process;
  const id = await process.start(definition, { subject: 's', params: { name: '' } });
  const options = { owner: 'other', sagas: [bindSaga(definition, {})] };
  const end = new AbortController();
  const running = new SagaRunner({ store: away, events, sagas, clock, log: silentLog }, options).run(end.signal);
  await clock.advance(4 * SECOND);
  t.equal(looks, 1);
  await clock.advance(2 * SECOND);
  t.equal(looks, 2);
  await clock.advance(5 * SECOND);
  while ((await row(store, id)).state !== 'completed') await new Promise((resolve) => setImmediate(resolve));
  end.abort();
  await running;
});
