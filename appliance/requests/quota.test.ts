import type { Test } from 'tap';

import { hasCode } from '../kernel/errors.ts';
import { eachStore } from '../store/test-stores.ts';
import { Pipeline } from './pipeline.fixture.ts';
import { findRequest } from './request-records.ts';

eachStore('of a hundred orders at once as many are admitted as the quota allows', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock, { machines: 0 });
  await store.transaction((tx) =>
    tx.updateTable('quotas').set({ max_servers: 37 }).where('tenant_id', '=', 't1').execute(),
  );
  const answers = await Promise.allSettled(Array.from({ length: 100 }, () => pipeline.order()));
  const admitted = answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : []));
  const reasons = answers.flatMap((answer) => (answer.status === 'rejected' ? [answer.reason as unknown] : []));
  t.equal(new Set(admitted).size, 37);
  t.equal(reasons.length, 63);
  t.ok(reasons.every((reason) => hasCode(reason, 'quota.exceeded')));
  await isUsed(t, pipeline, 37);
  await pipeline.isHealthy(t);

  // Cancelled twice each, at once.
  await Promise.all([...admitted, ...admitted].map((id) => pipeline.release(id)));
  for (const id of admitted) await pipeline.untilRequest(id, 'rolled-back');
  await isUsed(t, pipeline, 0);
  t.same(await store.read.selectFrom('requests').select('id').where('ended_at', 'is', null).execute(), []);
  t.match(await findRequest(store.read, admitted[0] ?? ''), { state: 'rolled-back' });
  await pipeline.isHealthy(t);
});

/** So many servers of the flavor `small` count for the tenant. */
async function isUsed(t: Test, { store }: Pipeline, servers: number): Promise<void> {
  const quota = store.read.selectFrom('quotas').selectAll().where('tenant_id', '=', 't1');
  t.match(await quota.execute(), [
    {
      used_servers: servers,
      used_cores: 4 * servers,
      used_memory_mib: 8_192 * servers,
      used_disk_gib: 100 * servers,
    },
  ]);
}
