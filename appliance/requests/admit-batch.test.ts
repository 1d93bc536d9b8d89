import { eachStore } from '../store/test-stores.ts';
import { admitServers } from './admit-batch.ts';
import type { NamedOrder } from './admit-batch.ts';
import { Pipeline, serverOrder } from './pipeline.fixture.ts';
import { prerequisitesOf } from './prerequisites.ts';
import { findRequest } from './request-records.ts';

eachStore('a batch is taken in whole, each order behind what it depends on', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock, { machines: 4 });
  const power = Promise.withResolvers<undefined>();
  for (const machine of pipeline.rack) machine.atCommand = () => power.promise;
  const old = await pipeline.order({ hostname: 'old' });
  const order = (name: string, ...dependsOn: string[]) => ({ ...serverOrder, hostname: name, name, dependsOn });
  const ids = await batch(pipeline, [order('web', 'app', old), order('app', 'db'), order('db')]);
  const [web, app, db] = ids as [string, string, string];
  t.same(await Promise.all(ids.map(async (id) => (await findRequest(store.read, id)).hostname)), ['web', 'app', 'db']);
  t.same(await prerequisitesOf(store.read, web), [old, app].sort());
  const states = await Promise.all(ids.map(async (id) => (await findRequest(store.read, id)).state));
  t.same(states.slice(0, 2), ['queued', 'queued']);
  t.not(states[2], 'queued', 'what waits for nobody is on its way at once');
  power.resolve(undefined);
  await pipeline.untilRequest(web, 'completed');
  const times = await Promise.all([app, db].map(async (id) => (await findRequest(store.read, id)).completed_at));
  t.equal((await findRequest(store.read, web)).dispatched_at, times[0]);
  t.equal((await findRequest(store.read, app)).dispatched_at, times[1]);
  await pipeline.isHealthy(t);
});

eachStore('a batch with a cycle, or one wrong order, is refused whole', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const order = (name: string, ...dependsOn: string[]) => ({ ...serverOrder, name, dependsOn });
  await t.rejects(batch(pipeline, [order('free'), order('b', 'a'), order('a', 'free', 'b')]), {
    code: 'request.invalid',
    message: 'These orders depend on each other: b → a → b.',
    fields: [{ field: '/servers/2/dependsOn' }, { field: '/servers/1/dependsOn' }],
  });
  await t.rejects(batch(pipeline, [order('a'), order('b', 'c'), { ...order('d'), flavor: 'none' }]), {
    code: 'request.invalid',
    fields: [{ field: '/servers/1/dependsOn/0', message: 'There is no such server.' }],
  });
  await t.rejects(batch(pipeline, [order('a'), { ...order('d', 'a'), flavor: 'none' }]), {
    fields: [{ field: '/servers/1/flavor' }],
  } as never);
  await t.rejects(batch(pipeline, [order('a'), order('a')]), { fields: [{ field: '/servers/1/name' }] } as never);
  t.same(await store.read.selectFrom('requests').selectAll().execute(), []);
  await pipeline.isHealthy(t);
});

function batch(pipeline: Pipeline, orders: readonly NamedOrder[]): Promise<string[]> {
  return admitServers(pipeline.admitDeps, orders, { tenantId: 't1', actor: 'key_1' });
}
