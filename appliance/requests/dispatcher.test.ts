import { sql } from 'kysely';

import { silentLog } from '../kernel/log.ts';
import { openStore } from '../store/open.ts';
import { eachStore, postgresStore } from '../store/test-stores.ts';
import { Dispatcher } from './dispatcher.ts';
import { nextTurns } from './queue.ts';
import { Queued } from './queued.fixture.ts';
import { inFlightStates } from './request-states.ts';

const limits = { perTenant: 5, inAll: 20 };

eachStore(
  'a request that is alone has its turn with its admission, and one that is not is in the queue',
  async (t, store, { clock }) => {
    const queued = new Queued(store, clock);
    await queued.describe(['a', 'b']);
    const dispatcher = new Dispatcher(queued.deps, { perTenant: 1, inAll: 20 });
    const admit = () =>
      store.transaction(async (tx) => {
        const [requestId = ''] = await queued.queue(tx, 'a', 1, { ready_at: null });
        return dispatcher.admit(tx, { requestId, tenantId: 'a' });
      });
    t.equal(await admit(), true);
    t.equal(await admit(), false);
    t.match(await store.read.selectFrom('requests').selectAll().orderBy('id').execute(), [
      { state: 'allocating', ready_at: clock.now(), dispatched_at: clock.now() },
      { state: 'queued', ready_at: clock.now(), dispatched_at: null },
    ]);
  },
);

eachStore('the sixth of a tenant waits until one of its five is done', async (t, store, { clock }) => {
  const queued = new Queued(store, clock);
  await queued.describe(['a']);
  const dispatcher = new Dispatcher(queued.deps, limits);
  const ids: string[] = [];
  for (let count = 0; count < 7; count += 1) {
    await store.transaction(async (tx) => {
      const [requestId = ''] = await queued.queue(tx, 'a', 1, { ready_at: null });
      await dispatcher.admit(tx, { requestId, tenantId: 'a' });
      ids.push(requestId);
    });
  }
  t.same(await queued.in(...inFlightStates), ids.slice(0, 5));
  await dispatcher.dispatch();
  t.same(await queued.in('queued'), ids.slice(5), 'also when somebody looks');
  t.match(await store.read.selectFrom('sagas').select('wake_at').where('id', '=', 'saga_000005').executeTakeFirst(), {
    wake_at: Number.MAX_SAFE_INTEGER,
  });
  await queued.move(ids[2]!, 'configuring');
  await dispatcher.dispatch();
  t.equal((await queued.in('queued')).length, 2, 'a step further is in flight as well');
  await queued.move(ids[2]!, 'rolling-back');
  await dispatcher.dispatch();
  t.same(await queued.in('queued'), ids.slice(6), 'what is rolled back makes room');
});

eachStore('a dispatcher that runs hears of every place that becomes free', async (t, store, { clock }) => {
  const queued = new Queued(store, clock);
  await queued.describe(['a', 'b']);
  const dispatcher = new Dispatcher(queued.deps, { perTenant: 1, inAll: 20 });
  const [first, second, cancelled, third] = await store.transaction((tx) => queued.queue(tx, 'a', 4));
  const end = new AbortController();
  const running = dispatcher.run(end.signal);
  const settle = async () => {
    await queued.sequence();
    while (dispatcher.busy) await new Promise((resolve) => setImmediate(resolve));
  };
  await settle();
  t.same(await queued.in('allocating'), [first]);
  await queued.move(cancelled!, 'rolling-back');
  await queued.move(first!, 'failed');
  await settle();
  t.same(await queued.in('allocating'), [second], 'no time has passed');
  await queued.move(second!, 'rolling-back');
  await settle();
  t.same(await queued.in('allocating'), [third], 'one that was cancelled has no turn');
  end.abort();
  await running;
});

eachStore('while others wait, whoever comes stands behind them', async (t, store, { clock }) => {
  const queued = new Queued(store, clock);
  await queued.describe(['a', 'b']);
  const dispatcher = new Dispatcher(queued.deps, { perTenant: 1, inAll: 2 });
  await store.transaction((tx) => queued.queue(tx, 'a', 2));
  await store.transaction(async (tx) => {
    const [requestId = ''] = await queued.queue(tx, 'b', 1, { ready_at: null });
    await dispatcher.admit(tx, { requestId, tenantId: 'b' });
  });
  t.same(await queued.in('allocating'), [], 'it has no turn of its own');
  await dispatcher.dispatch();
  t.same(await queued.in('allocating'), ['srv_000000', 'srv_000002'], 'but its turn comes at the next look');
});

eachStore('fifty tenants take turns, one with a thousand queued among them', async (t, store, { clock }) => {
  const queued = new Queued(store, clock);
  const modest = Array.from({ length: 49 }, (_, index) => `t${String(index).padStart(2, '0')}`);
  await queued.describe(['greedy', ...modest]);
  const dispatcher = new Dispatcher(queued.deps, limits);
  await store.transaction((tx) => queued.queue(tx, 'greedy', 1_000));
  await clock.advance(1);
  await store.transaction(async (tx) => {
    for (const tenantId of modest) await queued.queue(tx, tenantId, 2);
  });
  const turns = new Map<string, number>();
  for (let round = 1; round <= 5; round += 1) {
    await clock.advance(1_000);
    await dispatcher.dispatch();
    const ids = await queued.in('allocating');
    t.equal(ids.length, 20, 'there is room for twenty');
    const owners = await store.read.selectFrom('requests').select('tenant_id').where('id', 'in', ids).execute();
    for (const { tenant_id } of owners) turns.set(tenant_id, (turns.get(tenant_id) ?? 0) + 1);
    for (const id of ids) await queued.move(id, 'rolling-back');
    if (round === 3) t.equal(turns.size, 50, 'all fifty had one within three rounds of twenty');
  }
  // Those who had their turns in one look are as long without one.
  t.ok(Math.min(...turns.values()) >= 1 && Math.max(...turns.values()) <= 3, 'a hundred turns are about two for each');
  t.ok((turns.get('greedy') ?? 0) <= 3, 'for the one with a thousand as well');
});

postgresStore(
  'two dispatchers and those who order never give a tenant a sixth place',
  async (t, store, { clock, url }) => {
    const other = await openStore({ url, clock, log: silentLog });
    t.teardown(() => other.close());
    const queued = new Queued(store, clock);
    const tenants = ['a', 'b', 'c'];
    await queued.describe(tenants);
    const dispatchers = [
      new Dispatcher(queued.deps, { perTenant: 5, inAll: 14 }),
      new Dispatcher({ ...queued.deps, store: other }, { perTenant: 5, inAll: 14 }),
    ];
    const most = { ofTenant: 0, inAll: 0 };
    const count = async () => {
      const rows = await store.read
        .selectFrom('requests')
        .select(['tenant_id', ({ fn }) => fn.countAll<number>().as('count')])
        .where('state', 'in', inFlightStates)
        .groupBy('tenant_id')
        .execute();
      const counts = rows.map((row) => row.count);
      most.ofTenant = Math.max(most.ofTenant, ...counts);
      most.inAll = Math.max(
        most.inAll,
        counts.reduce((sum, one) => sum + one, 0),
      );
    };
    const order = (tenantId: string, index: number) => {
      const dispatcher = dispatchers[index % 2]!;
      return (index % 2 === 0 ? store : other).transaction(async (tx) => {
        const [requestId = ''] = await queued.queue(tx, tenantId, 1, { ready_at: null });
        await dispatcher.admit(tx, { requestId, tenantId });
      });
    };
    let left = 150;
    const ordering = Promise.all(
      Array.from({ length: 6 }, async (_, index) => {
        while (left-- > 0) await order(tenants[left % 3]!, index);
      }),
    );
    const dispatching = dispatchers.map(async (dispatcher) => {
      while ((await queued.in('queued')).length > 0 || left > 0) {
        await dispatcher.dispatch();
        await count();
      }
    });
    // Whoever has a place gives it back, a few at a time, until all had one.
    const working = (async () => {
      let idle = 0;
      while (idle < 3) {
        const ids = await queued.in('allocating');
        for (const id of ids.slice(0, 4)) await queued.move(id, 'rolling-back');
        await count();
        idle = left <= 0 && ids.length === 0 && (await queued.in('queued')).length === 0 ? idle + 1 : 0;
      }
    })();
    await Promise.all([ordering, ...dispatching, working]);
    t.equal((await queued.in('rolling-back')).length, 150, 'everybody had a turn');
    t.ok(most.ofTenant <= 5, `${String(most.ofTenant)} of a tenant`);
    t.ok(most.inAll <= 14, `${String(most.inAll)} in all`);
  },
);

postgresStore(
  'with 10,000 in the queue a look reads some rows a tenant, not the queue',
  async (t, store, { clock }) => {
    const queued = new Queued(store, clock);
    const tenants = Array.from({ length: 50 }, (_, index) => `t${String(index)}`);
    await queued.describe(tenants);
    for (const tenantId of tenants) {
      await store.transaction(async (tx) => {
        await queued.queue(tx, tenantId, 200);
        await queued.queue(tx, tenantId, 4, { state: 'activating', dispatched_at: clock.now() });
      });
    }
    const rowsRead = await store.transaction(async (tx) => {
      await sql`analyze requests`.execute(tx);
      const reads = async () => {
        const { rows } = await sql<{ reads: number }>`
        select seq_tup_read + coalesce(idx_tup_fetch, 0) as reads
        from pg_stat_xact_user_tables where relname = 'requests'`.execute(tx);
        return rows[0]!.reads;
      };
      const before = await reads();
      const { chosen } = await nextTurns(tx, 'postgres', { perTenant: 5, inAll: 1_000 });
      t.equal(chosen.length, 50, 'each has room for one');
      return (await reads()) - before;
    });
    t.ok(rowsRead < 2_000, `${String(rowsRead)} rows were read`);
  },
);
