import { silentLog } from '../kernel/log.ts';
import { holding } from '../providers/bare-metal/holding.ts';
import type { ServerSpec } from '../providers/provider.ts';
import type { StepContext } from '../saga/step.ts';
import type { Store } from '../store/store.ts';
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

eachStore(
  '200 orders at once for 200 machines, placed by four daemons: each gets just one',
  async (t, store, { clock }) => {
    // Nobody has a turn: what is made for an order is made here.
    const fairness = { perTenant: 0 };
    const pipeline = await Pipeline.open(t, store, clock, { machines: 200, addresses: 200, fairness });
    const { care, process } = pipeline.daemon;
    const daemons = Array.from({ length: 4 }, () => holding({ events: process.events, care }));
    const specs: ServerSpec[] = [];
    for (let count = 0; count < 200; count += 1) {
      const tenantId = count % 2 === 0 ? 't1' : 't2';
      specs.push(await specOf(store, await pipeline.order({}, { tenantId })));
    }
    const held = await Promise.all(
      specs.map(async (spec, index) => {
        const created = await daemons[index % 4]!.create('', spec, contextOf(pipeline, spec));
        return created.kind === 'done' ? created.output.machineId : 'none';
      }),
    );
    t.same(held.toSorted(), pipeline.machineIds.toSorted());
    const rows = await store.read.selectFrom('allocations').select(['machine_id', 'attempt_id']).execute();
    t.equal(rows.length, 200);
    for (const [index, { attemptId }] of specs.entries()) {
      if (!rows.some((row) => row.attempt_id === attemptId && row.machine_id === held[index]))
        t.fail(`${attemptId} holds another`);
    }
    const late = { ...specs[0]!, attemptId: 'att_late' };
    await t.rejects(daemons[0]!.create('', late, contextOf(pipeline, late)), {
      ...{ code: 'placement.none', details: { emptiedBy: null } },
    });
  },
);

async function specOf(store: Store, requestId: string): Promise<ServerSpec> {
  const { params } = await store.read
    .selectFrom('sagas')
    .innerJoin('attempts', 'attempts.saga_id', 'sagas.id')
    .select('params')
    .where('request_id', '=', requestId)
    .executeTakeFirstOrThrow();
  return JSON.parse(params) as ServerSpec;
}

function contextOf({ store, clock }: Pipeline, { attemptId, tenantId }: ServerSpec): StepContext<undefined> {
  return {
    ...{ sagaId: `saga-of-${attemptId}`, step: 'allocate', subject: attemptId, tenantId, key: attemptId },
    ...{ deps: undefined, clock, log: silentLog, read: store.read, tries: 1, startedAt: clock.now() },
    ...{ waited: false, first: true, signal: new AbortController().signal },
    transaction: (work) => store.transaction(work),
  };
}

function quota({ store }: Pipeline) {
  return store.read.selectFrom('quotas').selectAll().where('tenant_id', '=', 't1').executeTakeFirstOrThrow();
}
