import { HOUR, MINUTE, SECOND } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import { silentLog } from '../kernel/log.ts';
import type { Provider } from '../providers/provider.ts';
import { Providers } from '../providers/providers.ts';
import type { Store } from '../store/store.ts';
import { eachStore, sqliteStore } from '../store/test-stores.ts';
import { Pipeline } from './pipeline.fixture.ts';
import { Sweep } from './sweep.ts';
import { orphansOf } from './sweep-records.ts';

const signal = new AbortController().signal;
const simulated = { provider: 'simulation' } as const;

eachStore(
  'what was planted behind our back is found, told of, and removed when its grace is over; what is owned stays',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock, { machines: 0 });
    const sweep = sweepOf(pipeline);
    const owner = await pipeline.order(simulated);
    await pipeline.untilRequest(owner, 'completed');
    const kept = await held(store);
    await plant(store, 'saga_lost/server');

    await sweep.look(signal);
    const found = await orphansOf(store.read);
    t.match(found, [
      { provider: 'simulation', cluster: 'sim1', kind: 'server', made_for: 'saga_lost/server', failure: null },
    ]);
    t.equal(found[0]?.remove_at, clock.now() + HOUR);
    await clock.advance(HOUR - SECOND);
    await sweep.look(signal);
    t.same(await held(store), [...kept, 'saga_lost/server'].sort(), 'until its grace is over nothing is touched');
    await clock.advance(SECOND);
    await looked(sweep, pipeline);
    t.same(await held(store), kept);
    t.same(await orphansOf(store.read), []);
    await looked(sweep, pipeline);
    t.match(await told(pipeline), [
      { type: 'orphan.found', data: { madeFor: 'saga_lost/server' } },
      { type: 'orphan.ended', data: { madeFor: 'saga_lost/server', outcome: 'removed' } },
    ]);
  },
);

eachStore('two daemons that sweep at once find, remove and tell of it once', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock, { machines: 0 });
  const sweeps = [sweepOf(pipeline), sweepOf(pipeline)];
  await plant(store, 'saga_lost/server');
  for (const _ of ['found', 'removed']) {
    await Promise.all(sweeps.map((sweep) => looked(sweep, pipeline)));
    await clock.advance(HOUR);
  }
  t.same(await held(store), []);
  t.match(
    (await told(pipeline)).map(({ type }) => type),
    ['orphan.found', 'orphan.ended'],
  );
});

eachStore(
  'what is made for a request that is admitted during the look is not taken for an orphan',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock, { machines: 0 });
    const { provider } = real(pipeline);
    let id = '';
    const slow: Provider = {
      ...provider,
      async holdings(ctx) {
        id = await pipeline.order(simulated);
        await pipeline.until('something is made', async () => (await held(store)).length > 0);
        return provider.holdings(ctx);
      },
    };
    await sweepOf(pipeline, slow).look(signal);
    t.not((await held(store)).length, 0);
    t.same(await orphansOf(store.read), []);
    await pipeline.untilRequest(id, 'completed');
  },
);

eachStore('what is given back during the look is not taken for an orphan', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock, { machines: 0 });
  const { provider } = real(pipeline);
  const id = await pipeline.order(simulated);
  await pipeline.untilRequest(id, 'completed');
  let looks = 0;
  const slow: Provider = {
    ...provider,
    async holdings(ctx) {
      const holdings = await provider.holdings(ctx);
      looks += 1;
      if (looks === 1) {
        await pipeline.release(id);
        await pipeline.untilRequest(id, 'deprovisioned');
      }
      return holdings;
    },
  };
  await sweepOf(pipeline, slow).look(signal);
  t.same(await held(store), []);
  t.same(await told(pipeline), []);
});

eachStore('what somebody owns again within its grace is left to them', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock, { machines: 0 });
  const sweep = sweepOf(pipeline);
  const id = await pipeline.order(simulated);
  await pipeline.untilRequest(id, 'completed');
  const kept = await held(store);
  const setSaga = (state: 'undone' | 'completed') =>
    store.transaction((tx) => tx.updateTable('sagas').set({ state }).where('name', '=', 'provision').execute());
  await setSaga('undone');
  await looked(sweep, pipeline);
  t.equal((await orphansOf(store.read)).length, kept.length);
  await setSaga('completed');
  await clock.advance(2 * HOUR);
  await looked(sweep, pipeline);
  t.same(await held(store), kept);
  t.same(await orphansOf(store.read), []);
  t.equal(
    (await told(pipeline)).filter(({ data }) => 'outcome' in data && data.outcome === 'owned').length,
    kept.length,
  );
});

sqliteStore('an owner who comes back between the look and the removal is noticed', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock, { machines: 0 });
  const { provider } = real(pipeline);
  const id = await pipeline.order(simulated);
  await pipeline.untilRequest(id, 'completed');
  const kept = await held(store);
  const setSaga = (state: 'undone' | 'completed') =>
    store.transaction((tx) => tx.updateTable('sagas').set({ state }).where('name', '=', 'provision').execute());
  await setSaga('undone');
  await looked(sweepOf(pipeline), pipeline);
  await clock.advance(HOUR);
  let removals = 0;
  const watched: Provider = {
    ...provider,
    // The first removal takes its time, in which the backup is restored.
    async remove(orphan, ctx) {
      removals += 1;
      if (removals > 1) return provider.remove(orphan, ctx);
      await setSaga('completed');
    },
  };
  await looked(sweepOf(pipeline, watched), pipeline);
  t.equal(removals, 1);
  t.same(await held(store), kept);
});

sqliteStore(
  'what can not be removed stays told of, with the reason, and is tried again',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock, { machines: 0 });
    const { provider } = real(pipeline);
    let refuses = true;
    const stubborn: Provider = {
      ...provider,
      remove: (orphan, ctx) =>
        refuses ? Promise.reject(new RackstartError('provider.refused', 'locked')) : provider.remove(orphan, ctx),
    };
    await plant(store, 'saga_lost/server');
    const sweep = sweepOf(pipeline, stubborn);
    await looked(sweep, pipeline);
    await clock.advance(HOUR);
    await looked(sweep, pipeline);
    t.match(await orphansOf(store.read), [{ failure: '{"code":"provider.refused","message":"locked"}' }]);
    refuses = false;
    await looked(sweep, pipeline);
    t.same(await held(store), []);
  },
);

sqliteStore('a provider that does not answer does not hold up the sweep of another', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock, { machines: 0 });
  const { provider } = real(pipeline);
  const silent: Provider = {
    ...provider,
    type: 'silent',
    holdings: (ctx) => clock.sleepUntil(Infinity, ctx.signal).then(() => []),
  };
  await plant(store, 'saga_lost/server');
  const sweep = sweepOf(pipeline, silent, provider);
  const look = sweep.look(signal);
  await pipeline.until('it is found', async () => (await orphansOf(store.read)).length === 1);
  await clock.advance(2 * MINUTE);
  await look;
});

eachStore(
  'a machine that nobody owns is set aside for an operator, with its addresses',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock);
    const sweep = sweepOf(pipeline);
    const id = await pipeline.order();
    await pipeline.untilRequest(id, 'completed');
    // As a bug, or a hand in the database, would leave it.
    const end = { ended_at: clock.now() };
    await store.transaction((tx) => tx.updateTable('attempts').set(end).execute());
    await looked(sweep, pipeline);
    t.same((await orphansOf(store.read)).map(({ kind }) => kind).sort(), ['address', 'agent', 'machine']);
    t.match(await pipeline.machine(), { state: 'deployed' });
    await clock.advance(HOUR);
    await looked(sweep, pipeline);
    t.match(await pipeline.machine(), { state: 'quarantined', disk_state: 'dirty' });
    t.same(await orphansOf(store.read), []);
    t.match(
      await store.read.selectFrom('addresses').select('holder_kind').where('holder_kind', '<>', 'nic').execute(),
      [{ holder_kind: 'set-aside' }],
    );
  },
);

function real(pipeline: Pipeline) {
  return { provider: pipeline.daemon.providers.of(simulated) };
}

function sweepOf(pipeline: Pipeline, ...providers: readonly Provider[]): Sweep {
  const { store, clock, ids, daemon } = pipeline;
  const { events } = daemon.process;
  const swept = providers.length === 0 ? daemon.providers : new Providers(...providers);
  return new Sweep({ store, events, providers: swept, clock, ids, log: silentLog }, { grace: HOUR });
}

/** The simulated cluster takes its time. */
async function looked(sweep: Sweep, pipeline: Pipeline): Promise<void> {
  let ended = false;
  const look = sweep.look(signal).then(() => (ended = true));
  await pipeline.until('the sweep has looked', () => Promise.resolve(ended));
  await look;
}

/** As a call that arrived when its request had long been undone would leave it. */
async function plant(store: Store, name: string): Promise<void> {
  const times = { created_at: 0, ready_at: 0 };
  const resource = { cluster: 'sim1', kind: 'server', name, id: 'f00', tenant_id: 't1', details: '{}', ...times };
  await store.transaction((tx) => tx.insertInto('simulated_resources').values(resource).execute());
}

async function held(store: Store): Promise<string[]> {
  const rows = await store.read.selectFrom('simulated_resources').select('name').execute();
  return rows.map(({ name }) => name).sort();
}

async function told(pipeline: Pipeline) {
  return (await pipeline.events()).filter(({ type }) => type.startsWith('orphan.'));
}
