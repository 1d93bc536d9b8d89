import { hasCode } from '../kernel/errors.ts';
import type { RackstartError } from '../kernel/errors.ts';
import { eachStore } from '../store/test-stores.ts';
import { Pipeline } from './pipeline.fixture.ts';
import { findRequest } from './request-records.ts';

eachStore(
  'names that do not exist are refused, one complaint a field, and nothing is held',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock);
    const refused = await pipeline
      .order({ region: 'x', flavor: 'y', image: 'debian:13' })
      .catch((error: unknown) => error);
    t.ok(hasCode(refused, 'request.invalid'));
    t.same(
      (refused as RackstartError).fields.map(({ field }) => field),
      ['/region', '/flavor', '/image'],
    );
    await t.rejects(pipeline.order({ image: 'debian:12:13' }), {
      code: 'request.invalid',
      fields: [{ field: '/image' }],
    });
    t.same(await store.read.selectFrom('requests').select('id').execute(), []);
    t.match(await quota(pipeline), { used_servers: 0 });
    await pipeline.isHealthy(t);
  },
);

eachStore(
  'an idempotency key names one request, however often and however simultaneously it comes',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock, { machines: 0 });
    const key = { idempotencyKey: 'k1' };
    const ids = await Promise.all(Array.from({ length: 8 }, () => pipeline.order({}, key)));
    t.equal(new Set(ids).size, 1);
    const { sshKeys, image, flavor, region, hostname } = await orderOf(pipeline);
    t.equal(
      await pipeline.order({ sshKeys, image, flavor, region, hostname }, key),
      ids[0],
      'whatever the order of its fields',
    );
    await t.rejects(pipeline.order({ hostname: 'web2' }, key), { code: 'idempotency.reused' });
    t.not(await pipeline.order({}, { ...key, tenantId: 't2' }), ids[0], 'of its tenant');
    t.not(await pipeline.order(), ids[0]);
    t.match(await quota(pipeline), { used_servers: 2 }, 'reserved once a request');
    await pipeline.isHealthy(t);
  },
);

eachStore('a quota is exact when many ask at once', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock, { machines: 0 });
  await store.transaction((tx) =>
    tx.updateTable('quotas').set({ max_servers: 7 }).where('tenant_id', '=', 't1').execute(),
  );
  const answers = await Promise.allSettled(Array.from({ length: 20 }, () => pipeline.order()));
  t.equal(answers.filter(({ status }) => status === 'fulfilled').length, 7);
  const reasons = answers.flatMap((answer) => (answer.status === 'rejected' ? [answer.reason as unknown] : []));
  t.ok(reasons.every((reason) => hasCode(reason, 'quota.exceeded')));
  t.match(await quota(pipeline), { used_servers: 7, used_cores: 28, used_disk_gib: 700 });
  await store.transaction((tx) =>
    tx.updateTable('quotas').set({ max_servers: 100, max_cores: 31 }).where('tenant_id', '=', 't1').execute(),
  );
  await t.rejects(pipeline.order(), { code: 'quota.exceeded' }, 'each dimension counts');
  await pipeline.isHealthy(t);
});

eachStore('a full address pool is told as that, and leaks neither machine nor quota', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock, { machines: 2, addresses: 1 });
  const first = await pipeline.order();
  await pipeline.untilRequest(first, 'completed');
  const second = await pipeline.order();
  await pipeline.untilRequest(second, 'rolled-back');
  const { failure } = await findRequest(store.read, second);
  t.match(JSON.parse(failure ?? ''), {
    code: 'address.pool-empty',
    step: 'allocate',
    details: { subnet: '10.77.0.0/16' },
  });
  t.match(await pipeline.machine(1), { state: 'available' });
  t.match(await quota(pipeline), { used_servers: 1 });
  await pipeline.release(first);
  const third = await pipeline.order();
  await pipeline.untilRequest(third, 'completed');
  await pipeline.isHealthy(t);
});

eachStore('a machine whose disk rule picks several disks is not placed on', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock, { machines: 1, inspected: false });
  const [machine] = pipeline.rack;
  const [disk] = machine!.inspection.disks;
  machine!.inspection = { ...machine!.inspection, disks: [disk!, { ...disk!, name: 'sdb' }] };
  const { care } = pipeline.daemon;
  await store.transaction((tx) => care.startInspection(tx, pipeline.machineIds[0]!));
  await pipeline.untilMachine('available');
  const id = await pipeline.order();
  await pipeline.untilRequest(id, 'rolled-back');
  const { failure } = await findRequest(store.read, id);
  t.match(JSON.parse(failure ?? ''), {
    code: 'placement.none',
    details: { rejected: { [pipeline.machineIds[0]!]: 'disks-do-not-fit' } },
  });
  await pipeline.isHealthy(t);
});

function quota({ store }: Pipeline) {
  return store.read.selectFrom('quotas').selectAll().where('tenant_id', '=', 't1').executeTakeFirstOrThrow();
}

async function orderOf({ store }: Pipeline) {
  const { params } = await store.read.selectFrom('requests').select('params').executeTakeFirstOrThrow();
  const { sshKeys } = JSON.parse(params) as { sshKeys: string[] };
  return { sshKeys, image: 'debian', flavor: 'small', region: 'north', hostname: 'web1' };
}
