import { HOUR } from '../kernel/clock.ts';
import { insertOrphan, orphan, setFailure } from '../requests/sweep-records.ts';
import { sqliteStore } from '../store/test-stores.ts';
import { apiBench } from './api.fixture.ts';

sqliteStore('what nobody owns is listed for operators, and counted for Prometheus', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { operator } = bench;
  t.same((await operator.get('/orphans')).body, { orphans: [] });
  const at = clock.now();
  const held = { cluster: 'east', kind: 'server', id: 'f00', madeFor: { key: 'saga_1/server' } };
  await store.transaction(async (tx) => {
    await insertOrphan(tx, orphan({ id: 'orp_1', provider: 'simulation', held, at, removeAt: at + HOUR }));
    await setFailure(tx, 'orp_1', { code: 'provider.refused', message: 'locked' });
  });
  t.same((await operator.get('/orphans')).body, {
    orphans: [
      {
        ...{ id: 'orp_1', provider: 'simulation', cluster: 'east', kind: 'server', name: 'f00' },
        madeFor: 'saga_1/server',
        foundAt: new Date(at).toISOString(),
        removeAt: new Date(at + HOUR).toISOString(),
        failure: { code: 'provider.refused', message: 'locked' },
      },
    ],
  });
  const { body } = await bench.app.inject({ url: '/metrics', headers: operator.headers });
  t.match(body, 'rackstart_orphans{provider="simulation"} 1\n');
  const { member } = await bench.tenant('acme');
  t.equal((await member.get('/orphans')).status, 403);
});
