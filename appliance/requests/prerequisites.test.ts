import type { Test } from 'tap';

import type { EventRecord } from '../events/event-log.ts';
import { silentLog } from '../kernel/log.ts';
import { openStore } from '../store/open.ts';
import type { Store } from '../store/store.ts';
import type { StoreTestContext } from '../store/test-stores.ts';
import { eachStore, postgresStore } from '../store/test-stores.ts';
import { Dispatcher } from './dispatcher.ts';
import { Pipeline } from './pipeline.fixture.ts';
import { prerequisitesOf } from './prerequisites.ts';
import { Queued } from './queued.fixture.ts';
import { findRequest } from './request-records.ts';

eachStore('a dependent waits without a place until all it depends on is completed', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock, { machines: 3, fairness: { perTenant: 1 } });
  const state = stateIn(store);
  const met: unknown[] = [];
  const look = async (hop: string) => {
    if (hop === 'image') met.push([await state(first), await state(dependent), await state(other)]);
    return undefined;
  };
  for (const machine of pipeline.rack) machine.atHop = look;
  const first = await pipeline.order({ hostname: 'db' });
  const dependent = await pipeline.order({ hostname: 'web', dependsOn: [first] });
  const other = await pipeline.order({ hostname: 'mail' });
  await pipeline.untilRequest(other, 'completed');
  await pipeline.untilRequest(dependent, 'completed');
  t.same(met, [
    ['activating', 'queued', 'queued'],
    ['completed', 'activating', 'queued'],
    ['completed', 'completed', 'activating'],
  ]);
  const { completed_at } = await findRequest(store.read, first);
  t.match(await findRequest(store.read, dependent), { ready_at: completed_at, dispatched_at: completed_at });
  t.same(await prerequisitesOf(store.read, dependent), [first]);
  await pipeline.isHealthy(t);
});

eachStore('while a dependent waits, those behind it have their turn', async (t, store, { clock }) => {
  const queued = new Queued(store, clock);
  await queued.describe(['a']);
  const dispatcher = new Dispatcher(queued.deps, { perTenant: 1, inAll: 5 });
  const [first] = await store.transaction((tx) => queued.queue(tx, 'a'));
  const dependent = await store.transaction((tx) => queued.depend(tx, 'a', [first!]));
  const [other] = await store.transaction((tx) => queued.queue(tx, 'a'));
  await dispatcher.dispatch();
  await queued.move(first!, 'configuring');
  t.same(await queued.in('queued'), [dependent, other]);
  await queued.move(first!, 'rolling-back');
  await dispatcher.dispatch();
  t.same([await queued.in('allocating'), await queued.in('queued')], [[other], [dependent]]);
  const { reason } = await store.read
    .selectFrom('sagas')
    .select('reason')
    .where('id', '=', dependent.replace('srv', 'saga'))
    .executeTakeFirstOrThrow();
  t.match(JSON.parse(reason!), { code: 'request.prerequisite-failed' }, 'it is on its way back instead');
});

eachStore('what depends on a failed server fails, and what depends on that', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  pipeline.rack[0]!.atHop = (hop) => (hop === 'image' ? { code: 'image.digest', reason: 'no' } : undefined);
  const first = await pipeline.order({ hostname: 'db' });
  const second = await pipeline.order({ hostname: 'app', dependsOn: [first] });
  const third = await pipeline.order({ hostname: 'web', dependsOn: [second, first] });
  await pipeline.untilRequest(third, 'rolled-back');
  await pipeline.untilRequest(second, 'rolled-back');
  const { failure } = await findRequest(store.read, second);
  t.match(JSON.parse(failure!), {
    code: 'request.prerequisite-failed',
    message: `It depends on db (${first}), which failed.`,
    details: { requestId: first },
  });
  const events = await pipeline.events();
  t.same(typesOf(events, second), [
    'request.state-changed',
    'provisioning.started',
    'request.state-changed',
    'provisioning.failed',
    'request.state-changed',
    'request.state-changed',
    'provisioning.rolled-back',
  ]);
  t.same(movesOf(events, third), ['queued', 'failed', 'rolling-back', 'rolled-back'], 'it never was in flight');
  const alerts = events.filter(({ type }) => type === 'alert.raised').map(({ key }) => key);
  t.ok(alerts.includes(first));
  t.notOk(alerts.includes(second) || alerts.includes(third), 'an engineer is told of the cause, not of what follows');
  await pipeline.untilRequest(first, 'rolled-back');
  await pipeline.untilMachine('available');
  t.match(await store.read.selectFrom('quotas').selectAll().where('tenant_id', '=', 't1').execute(), [
    { used_servers: 0 },
  ]);
  await pipeline.isHealthy(t);
});

eachStore('a server that is released takes along who has not started, and nobody else', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock, { machines: 2, fairness: { perTenant: 1 } });
  const first = await pipeline.order({ hostname: 'db' });
  await pipeline.untilRequest(first, 'completed');
  const started = await pipeline.order({ hostname: 'app', dependsOn: [first] });
  t.equal(await stateIn(store)(started), 'allocating', 'what is completed already holds nobody up');
  const queued = await pipeline.order({ hostname: 'web', dependsOn: [first] });
  t.match(await findRequest(store.read, queued), { state: 'queued', ready_at: clock.now() });
  await pipeline.release(first);
  await pipeline.untilRequest(queued, 'rolled-back');
  t.match(JSON.parse((await findRequest(store.read, queued)).failure!), { message: /which was released\.$/ });
  await pipeline.untilRequest(started, 'completed');
  t.same(movesOf(await pipeline.events(), queued), ['queued', 'failed', 'rolling-back', 'rolled-back']);

  const cancelled = await pipeline.order({ hostname: 'one' });
  const dependent = await pipeline.order({ hostname: 'two', dependsOn: [cancelled] });
  await pipeline.release(cancelled);
  await pipeline.untilRequest(dependent, 'rolled-back');
  t.match(JSON.parse((await findRequest(store.read, dependent)).failure!), { message: /which was cancelled\.$/ });
  await pipeline.untilMachine('available');
  await pipeline.isHealthy(t);
});

eachStore(
  'what is unknown, foreign or lost is told field by field, and nothing is ordered',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock, { fairness: { perTenant: 0 } });
    const foreign = await pipeline.order({}, { tenantId: 't2' });
    const own = await pipeline.order();
    const lost = await pipeline.order();
    await pipeline.release(lost);
    await pipeline.untilRequest(lost, 'rolled-back');
    const there = 'There is no such server.';
    await t.rejects(pipeline.order({ dependsOn: [own, foreign, 'srv_none', lost] }), {
      code: 'request.invalid',
      fields: [
        { field: '/dependsOn/1', message: there },
        { field: '/dependsOn/2', message: there },
        { field: '/dependsOn/3', message: 'This server has failed or was released.' },
      ],
    });
    const rows = await store.read.selectFrom('requests').select('id').execute();
    t.equal(rows.length, 3);
  },
);

const verifying = { state: 'verifying', dispatched_at: 0 } as const;

postgresStore('of two prerequisites that are completed at once the later one sees both', async (t, store, context) => {
  const [here, there] = await twoProcesses(t, store, context);
  await manyTimes(t, store, async () => {
    const [first, second] = await store.transaction((tx) => here.queue(tx, 'a', 2, verifying));
    const dependent = await store.transaction((tx) => here.depend(tx, 'a', [first!, second!]));
    await Promise.all([here.move(first!, 'completed'), there.move(second!, 'completed')]);
    return dependent;
  });
});

postgresStore('who orders what is just being completed sees it, or is told', async (t, store, context) => {
  const [here, there] = await twoProcesses(t, store, context);
  await manyTimes(t, store, async () => {
    const [first] = await store.transaction((tx) => here.queue(tx, 'a', 1, verifying));
    const ordering = store.transaction((tx) => here.depend(tx, 'a', [first!]));
    await there.move(first!, 'completed');
    return ordering;
  });
});

async function twoProcesses(t: Test, store: Store, { clock, url }: StoreTestContext): Promise<[Queued, Queued]> {
  const other = await openStore({ url, clock, log: silentLog });
  t.teardown(() => other.close());
  const here = new Queued(store, clock);
  await here.describe(['a']);
  return [here, new Queued(other, clock)];
}

/** Whatever comes first: the dependent that `work` makes is ready afterwards. */
async function manyTimes(t: Test, store: Store, work: () => Promise<string>): Promise<void> {
  for (let round = 0; round < 50; round += 1) {
    const { ready_at } = await findRequest(store.read, await work());
    if (ready_at === null) t.fail(`in round ${String(round)} nobody would ever have let it go on`);
  }
  t.pass('fifty times');
}

function stateIn(store: Store) {
  return async (id: string) => (await findRequest(store.read, id)).state;
}

function typesOf(events: readonly EventRecord[], id: string): string[] {
  return events.filter(({ key }) => key === id).map(({ type }) => type);
}

function movesOf(events: readonly EventRecord[], id: string): string[] {
  return events.flatMap(({ type, key, data }) => (type === 'request.state-changed' && key === id ? [data.to] : []));
}
