import { MINUTE } from '../kernel/clock.ts';
import type { Store } from '../store/store.ts';
import { eachStore, sqliteStore } from '../store/test-stores.ts';
import { apiBench } from './api.fixture.ts';

eachStore('what is stuck is listed, and goes on as an operator says', async (t, store, { clock }) => {
  const { operator, events, sequence } = await apiBench(t, store, clock);
  t.same((await operator.get('/stuck')).body, { stuck: [] });
  const at = clock.now();
  await insertStuck(store, 'saga_1', at);
  await insertStuck(store, 'saga_2', at + MINUTE);
  const error = { code: 'bmc.unreachable', message: 'The BMC is dead.' };
  t.same((await operator.get('/stuck')).body, {
    stuck: ['saga_1', 'saga_2'].map((id, index) => ({
      ...{ id, saga: 'wipe', subject: 'mch_1', request: null, machine: null, step: 'power-off', ...error, tries: 4 },
      since: new Date(at + index * MINUTE).toISOString(),
    })),
  });

  t.equal((await operator.post('/stuck/saga_1', { action: 'retry', reason: 'a new BMC' })).status, 204);
  t.equal((await operator.post('/stuck/saga_2', { action: 'skip', reason: 'it was scrapped' })).status, 204);
  t.same((await operator.get('/stuck')).body, { stuck: [] });
  const rows = await store.read
    .selectFrom('sagas')
    .innerJoin('saga_steps', 'saga_steps.saga_id', 'sagas.id')
    .select(['sagas.state', 'sagas.wake_at', 'saga_steps.state as step'])
    .orderBy('sagas.id')
    .execute();
  t.same(rows, [
    { state: 'undoing', wake_at: at, step: 'undoing' },
    { state: 'undoing', wake_at: at, step: 'skipped' },
  ]);
  await sequence();
  t.match(await events.read(0, 10), [
    { type: 'saga.resumed', key: 'saga_1', data: { sagaId: 'saga_1', action: 'retry', reason: 'a new BMC' } },
    { type: 'saga.resumed', key: 'saga_2', data: { action: 'skip' } },
  ]);
});

sqliteStore('nothing goes on twice, for no reason, or because a tenant says so', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { operator } = bench;
  const { member } = await bench.tenant('acme');
  await insertStuck(store, 'saga_1', clock.now());
  const decision = { action: 'retry', reason: 'a new BMC' };
  t.equal((await member.get('/stuck')).status, 403);
  t.equal((await member.post('/stuck/saga_1', decision)).status, 403);
  t.match(await operator.post('/stuck/saga_1', { action: 'retry' }), {
    status: 400,
    body: { error: { code: 'request.invalid', fields: [{ field: '/reason' }] } },
  });
  t.equal((await operator.post('/stuck/saga_1', decision)).status, 204);
  t.match(await operator.post('/stuck/saga_1', decision), { status: 404, body: { error: { code: 'not-found' } } });
  t.equal((await store.read.selectFrom('events').selectAll().execute()).length, 1);
});

async function insertStuck(store: Store, id: string, at: number): Promise<void> {
  const error = JSON.stringify({ code: 'bmc.unreachable', message: 'The BMC is dead.' });
  await store.transaction(async (tx) => {
    const plan = { name: 'wipe', version: 1, tenant_id: null, subject: 'mch_1', params: '{}' };
    const free = { owner: null, epoch: 3, lease_expires_at: 0, wake_at: null, ended_at: null };
    await tx
      .insertInto('sagas')
      .values({ id, ...plan, ...free, state: 'stuck', reason: error, created_at: at })
      .execute();
    const step = {
      name: 'power-off',
      ordinal: 0,
      tenant_id: null,
      tries: 4,
      output: null,
      recheck_at: null,
      forward: null,
    };
    await tx
      .insertInto('saga_steps')
      .values({ saga_id: id, ...step, state: 'stuck', error, started_at: at, ended_at: at })
      .execute();
  });
}
