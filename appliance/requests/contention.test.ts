import { eachStore } from '../store/test-stores.ts';
import { Pipeline } from './pipeline.fixture.ts';
import { findRequest } from './request-records.ts';

eachStore('fifty requests on ten machines: no machine and no address has two holders', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock, { machines: 10, fairness: { perTenant: 50 } });
  const ids = await Promise.all(Array.from({ length: 50 }, () => pipeline.order()));
  await pipeline.until('all have ended or work', async () => {
    const states = await Promise.all(ids.map(async (id) => (await findRequest(store.read, id)).state));
    return states.every((state) => state === 'completed' || state === 'rolled-back');
  });
  const rows = await store.read.selectFrom('requests').selectAll().execute();
  const completed = rows.filter(({ state }) => state === 'completed');
  t.equal(completed.length, 10);
  const addresses = completed.map(
    ({ connection }) => (JSON.parse(connection ?? '') as { addresses: string[] }).addresses[0],
  );
  t.equal(new Set(addresses).size, 10);
  t.same(new Set(pipeline.rack.map(({ system }) => system?.server)), new Set(completed.map(({ id }) => id)));
  for (const { failure } of rows.filter(({ state }) => state === 'rolled-back')) {
    if (!failure?.includes('placement.none')) t.fail(`another reason: ${failure ?? ''}`);
  }
  t.match(await quota(pipeline), { used_servers: 10 });
  await pipeline.isHealthy(t);
});

function quota({ store }: Pipeline) {
  return store.read.selectFrom('quotas').selectAll().where('tenant_id', '=', 't1').executeTakeFirstOrThrow();
}
