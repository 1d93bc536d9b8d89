import type { Test } from 'tap';

import { MINUTE, SECOND } from '../kernel/clock.ts';
import { silentLog } from '../kernel/log.ts';
import { examine } from '../store/doctor.ts';
import { eachStore, sqliteStore } from '../store/test-stores.ts';
import { servers } from './given-back.fixture.ts';
import { USUAL, deaf, hedgedInVain, looking, measured, verifying } from './hedging.fixture.ts';
import { Hedging } from './hedging.ts';
import { Pipeline } from './pipeline.fixture.ts';
import { attemptsOf, findRequest } from './request-records.ts';
import { serverTimeline } from './server-timeline.ts';
import { viewServer } from './server-view.ts';
import { StalledRequests } from './stalled.ts';

const badDisk = { code: 'disk.failed', reason: 'writing to /dev/sda failed: Input/output error' };

eachStore(
  'a request whose machine is slow is tried on a second one beside, and the slow one is given back',
  async (t, store, { clock }) => {
    const { pipeline, id } = await ordered(t, store, clock, 3);
    pipeline.rack[0]!.atHop = (hop) => (hop === 'image' ? 'silent' : undefined);
    const began = clock.now();
    await hedged(pipeline, id);
    t.ok(clock.now() - began > USUAL, 'not before 95 in 100 would have been done');
    await pipeline.untilRequest(id, 'completed');
    t.match(await attempts(pipeline, id), [
      { outcome: 'running', machine_id: pipeline.machineIds[0], hedges: null },
      { outcome: 'succeeded', machine_id: pipeline.machineIds[1], outrun_at: null },
    ]);
    t.match(await quota(pipeline), { used_servers: 1 }, 'counted once');
    t.equal((await servers(pipeline)).length, 2, 'the address is held while the machine may have it');
    const { bearer, generation } = pipeline.rack[0]!;
    const late = { generation, stage: 'image', status: 'done', uptime: 9, facts: {} } as const;
    await pipeline.daemon.director.report(bearer!, late);
    await looking(pipeline, 'the slow one is free', async () => (await pipeline.machine(0)).state === 'available');
    t.match(await attempts(pipeline, id), [{ outcome: 'cancelled', blame: null }, { outcome: 'succeeded' }]);
    t.match(await pipeline.machine(0), { disk_state: 'clean' });
    t.ok(pipeline.rack[0]!.commands.includes('power off'));
    t.equal((await servers(pipeline)).length, 1);
    t.equal(pipeline.rack[1]!.system?.server, id);
    t.match(await findRequest(store.read, id), { state: 'completed' });
    await isTold(t, pipeline, id, { allocated: 4 });
    const named = async (tenantId?: string) =>
      (await serverTimeline(store.read, await viewServer(store.read, id, tenantId))).entries.map(({ name }) => name);
    for (const name of ['hedged', 'outrun']) {
      t.ok((await named()).includes(name));
      t.notOk((await named('t1')).includes(name), `its tenant is not told: ${name}`);
    }
    t.ok((await named('t1')).includes('verify done'), 'but of the steps of what is its server');
    await pipeline.isHealthy(t);
    await pipeline.release(id);
    await pipeline.untilRequest(id, 'deprovisioned');
    t.match(await quota(pipeline), { used_servers: 0 });
    await pipeline.isHealthy(t);
  },
);

eachStore('the first machine has the server when it is ready before the second', async (t, store, { clock }) => {
  const { pipeline, id } = await ordered(t, store, clock, 2);
  pipeline.rack[1]!.atHop = (hop) => (hop === 'image' ? 'silent' : undefined);
  await hedged(pipeline, id);
  deaf(pipeline);
  await pipeline.untilRequest(id, 'completed');
  await looking(pipeline, 'the second one is free', async () => (await pipeline.machine(1)).state === 'available');
  t.match(await attempts(pipeline, id), [{ outcome: 'succeeded', outrun_at: null }, { outcome: 'cancelled' }]);
  t.match(await pipeline.machine(0), { state: 'deployed' });
  await isTold(t, pipeline, id, { allocated: 2 });
  const tenants = await viewServer(store.read, id, 't1');
  t.match(tenants.attempts, [{ attempt: { number: 1 } }], 'its tenant sees the server alone');
  t.equal(tenants.attempts.length, 1);
  const { entries } = await serverTimeline(store.read, tenants);
  t.notOk(entries.some(({ detail }) => detail['attempt'] === 2));
  const { stages } = await serverTimeline(store.read, await viewServer(store.read, id));
  t.equal(stages[0]?.startedAt, (await findRequest(store.read, id)).created_at, 'the stages are those of the server');
  await pipeline.isHealthy(t);
});

eachStore('of two machines that are ready in the same moment one has the server', async (t, store, { clock }) => {
  const { pipeline, id } = await ordered(t, store, clock, 2);
  deaf(pipeline, 0, 1);
  await looking(pipeline, 'both wait for SSH', () => verifying(pipeline, id, 2));
  deaf(pipeline);
  clock.jump(5 * SECOND);
  await pipeline.settle();
  const ends = (await attempts(pipeline, id)).toSorted((a, b) => (a.outcome > b.outcome ? 1 : -1));
  t.match(
    ends,
    [{ outcome: 'cancelled', failure: /"step":"verify"/ }, { outcome: 'succeeded' }],
    'at its own hand-over',
  );
  t.match(await findRequest(store.read, id), { state: 'completed' });
  const states = async () => [(await pipeline.machine(0)).state, (await pipeline.machine(1)).state].toSorted();
  await looking(pipeline, 'the other one is free', async () => (await states()).join() === 'available,deployed');
  t.equal((await servers(pipeline)).length, 1);
  await isTold(t, pipeline, id, {});
  await pipeline.isHealthy(t);
  const loser = ends[0]?.id ?? '';
  await store.transaction((tx) =>
    tx.updateTable('attempts').set({ outcome: 'succeeded' }).where('id', '=', loser).execute(),
  );
  t.same(await examine(store.read), [{ invariant: 'what was outrun is no server', subject: loser }]);
  const twoServers = { ended_at: null, outrun_at: null };
  await store.transaction((tx) => tx.updateTable('attempts').set(twoServers).where('id', '=', loser).execute());
  t.match(await examine(store.read), [{ invariant: /^a request has one attempt that serves/, subject: id }]);
});

eachStore('a request that is cancelled while two machines are tried ends both', async (t, store, { clock }) => {
  const { pipeline, id } = await ordered(t, store, clock, 2);
  deaf(pipeline, 0, 1);
  await looking(pipeline, 'both wait for SSH', () => verifying(pipeline, id, 2));
  await pipeline.release(id);
  await pipeline.untilRequest(id, 'rolled-back');
  t.match(await attempts(pipeline, id), [
    { outcome: 'cancelled', outrun_at: null },
    { outcome: 'cancelled', outrun_at: null },
  ]);
  t.match(await quota(pipeline), { used_servers: 0 });
  t.same(await servers(pipeline), []);
  for (const index of [0, 1]) await pipeline.untilMachine('available', index);
  const ended = (await pipeline.events()).filter(({ type }) => type === 'provisioning.rolled-back');
  t.match(ended, [{ data: { reason: /Cancelled by/ } }]);
  t.equal((ended[0]!.data as unknown as { held: string[] }).held.length, 2, 'what its tenant was told of');
  await pipeline.isHealthy(t);
});

eachStore('a second machine that fails leaves the request to the first', async (t, store, { clock }) => {
  const { pipeline, id } = await ordered(t, store, clock, 3);
  pipeline.rack[1]!.atHop = (hop) => (hop === 'image' ? badDisk : undefined);
  await hedged(pipeline, id);
  await pipeline.untilMachine('quarantined', 1);
  t.match(await findRequest(store.read, id), { state: 'verifying', failure: null });
  await pipeline.lookForSlow();
  deaf(pipeline);
  await pipeline.untilRequest(id, 'completed');
  t.match(await attempts(pipeline, id), [{ outcome: 'succeeded' }, { outcome: 'failed', blame: 'machine' }]);
  await isTold(t, pipeline, id, { allocated: 2, outrun: 0 });
  await pipeline.isHealthy(t);
});

eachStore(
  'a request in which nothing happens on either machine is ended, and fails once',
  async (t, store, { clock }) => {
    const { pipeline, id } = await ordered(t, store, clock, 3);
    const watch = new StalledRequests({ ...pipeline.admitDeps, log: silentLog }, MINUTE);
    deaf(pipeline, 0, 1);
    await looking(pipeline, 'both wait for SSH', () => verifying(pipeline, id, 2));
    const boots = store.read.selectFrom('boot_sessions').select('seen_at').orderBy('seen_at', 'desc');
    const { seen_at: seenAt } = await boots.executeTakeFirstOrThrow();
    clock.jump(seenAt + MINUTE - 1 - clock.now());
    await watch.look();
    t.match(await reasons(pipeline), [null, null], 'the second was heard of, and the first for longer not');
    clock.jump(1);
    await Promise.all([watch.look(), watch.look()]);
    t.match(await reasons(pipeline), [/request\.stalled/, /request\.stalled/]);
    await pipeline.untilRequest(id, 'rolled-back');
    const ended = { outcome: 'failed', blame: 'service', outrun_at: null };
    t.match(await attempts(pipeline, id), [ended, ended]);
    t.equal((await attempts(pipeline, id)).length, 2, 'no third machine is tried');
    const [first] = await attempts(pipeline, id);
    const failed = (await pipeline.events()).filter(({ type }) => type === 'provisioning.failed');
    t.match(failed, [{ tenantId: 't1', data: { attemptId: first?.id, code: 'request.stalled' } }]);
    t.equal(failed.length, 1);
    for (const index of [0, 1]) await pipeline.untilMachine('available', index);
    t.match(await quota(pipeline), { used_servers: 0 });
    t.same(await servers(pipeline), []);
    await hearsOfOne(t, pipeline, id);
    await pipeline.isHealthy(t);
  },
);

sqliteStore(
  'that a machine is stuck on its way back which was outrun is nothing to its tenant',
  async (t, store, { clock }) => {
    const { pipeline, id } = await ordered(t, store, clock, 2);
    pipeline.rack[0]!.atHop = (hop) => (hop === 'image' ? 'silent' : undefined);
    pipeline.rack[0]!.atCommand = (command) => {
      if (command === 'power off') throw new Error('a defect');
    };
    await hedged(pipeline, id);
    await looking(pipeline, 'it is stuck', async () => (await pipeline.machine(0)).state === 'quarantined');
    const alerts = (await pipeline.events()).filter(({ type, key }) => type === 'alert.raised' && key === id);
    t.match(alerts, [{ tenantId: undefined, data: { message: 'a defect' } }]);
    t.match(await findRequest(store.read, id), { state: 'completed' });
    await pipeline.isHealthy(t);
  },
);

sqliteStore('a first machine that fails leaves the request to the second', async (t, store, { clock }) => {
  const { pipeline, id } = await ordered(t, store, clock, 3);
  deaf(pipeline, 0, 1);
  await looking(pipeline, 'both wait for SSH', () => verifying(pipeline, id, 2));
  // Its deadline ends the first, which has waited for longer.
  await pipeline.until('the first has failed', async () => (await attempts(pipeline, id))[0]?.outcome === 'failed');
  t.match(await findRequest(store.read, id), { state: 'verifying', failure: null });
  deaf(pipeline);
  await pipeline.untilRequest(id, 'completed');
  t.match(await attempts(pipeline, id), [{ outcome: 'failed' }, { outcome: 'succeeded' }]);
  await isTold(t, pipeline, id, { outrun: 0 });
  await pipeline.isHealthy(t);
});

sqliteStore(
  'when both have failed the request goes on, and the hedge is none of its three',
  async (t, store, { clock }) => {
    const { pipeline, id } = await ordered(t, store, clock, 4);
    const kexec = { code: 'boot.stage-failed', reason: 'kexec returned' };
    for (const machine of pipeline.rack.slice(1, 3)) machine.atHop = (hop) => (hop === 'kexec' ? kexec : undefined);
    await hedged(pipeline, id);
    await pipeline.untilRequest(id, 'completed');
    t.match(await attempts(pipeline, id), [
      { outcome: 'failed', hedges: null },
      { outcome: 'failed', machine_id: pipeline.machineIds[1] },
      { outcome: 'failed', machine_id: pipeline.machineIds[2], hedges: null },
      { outcome: 'succeeded', machine_id: pipeline.machineIds[3], hedges: null },
    ]);
    const moves = (await pipeline.events()).filter(({ type }) => type === 'provisioning.attempt-moved');
    const [first] = await attempts(pipeline, id);
    t.match(moves[0], { tenantId: 't1', data: { from: first?.id, machineId: first?.machine_id, blame: first?.blame } });
    const tenants = await serverTimeline(store.read, await viewServer(store.read, id, 't1'));
    const moved = tenants.entries.filter(({ name }) => name === 'attempt moved');
    t.match(moved, [{ detail: { from: 'm1' } }, { detail: { from: 'm3' } }]);
    await hearsOfOne(t, pipeline, id);
    await pipeline.isHealthy(t);
  },
);

sqliteStore('without a free machine nothing happens to a slow request', async (t, store, { clock }) => {
  const { pipeline, id } = await ordered(t, store, clock, 1);
  await isLeftAlone(t, pipeline, id);
});

eachStore(
  'a hedge that finds no machine at its placement is begun again when one suits',
  async (t, store, { clock }) => {
    const { pipeline, id } = await ordered(t, store, clock, 2);
    await wants(pipeline, 1, 2 ** 50);
    const began = clock.now();
    await looking(pipeline, 'it has found none', async () => (await attempts(pipeline, id))[1]?.ended_at != null);
    t.match((await attempts(pipeline, id))[1], { outcome: 'failed', machine_id: null, failure: /placement\.none/ });
    t.match(await findRequest(store.read, id), { state: 'verifying', failure: null });
    await wants(pipeline, 1, 1);
    await looking(pipeline, 'it is begun again', async () => (await attempts(pipeline, id)).length === 3);
    t.ok(clock.now() - began > 2 * USUAL, 'after as long again');
    await pipeline.untilRequest(id, 'completed');
    t.match(await attempts(pipeline, id), [
      { hedges: null },
      { outcome: 'failed', machine_id: null },
      { outcome: 'succeeded', machine_id: pipeline.machineIds[1] },
    ]);
    await looking(pipeline, 'the slow one is free', async () => (await pipeline.machine(0)).state === 'available');
    t.equal((await attempts(pipeline, id)).length, 3);
    await pipeline.isHealthy(t);
  },
);

sqliteStore('after three that found no machine no more are begun', async (t, store, { clock }) => {
  const { pipeline, id } = await ordered(t, store, clock, 2, { usual: 5 * SECOND });
  await hedgedInVain(pipeline, id, 3);
  const until = clock.now() + 40 * SECOND;
  await looking(pipeline, 'it is very slow', () => Promise.resolve(clock.now() >= until));
  deaf(pipeline);
  await pipeline.untilRequest(id, 'completed');
  t.equal((await attempts(pipeline, id)).length, 4);
  t.match(await attempts(pipeline, id), [{ outcome: 'succeeded', outrun_at: null }]);
  t.equal((await viewServer(store.read, id, 't1')).attempts.length, 1, 'its tenant sees none of them');
  await pipeline.isHealthy(t);
});

sqliteStore('what was measured too seldom is not hedged', async (t, store, { clock }) => {
  const { pipeline, id } = await ordered(t, store, clock, 2, { deploys: 19 });
  await isLeftAlone(t, pipeline, id);
});

sqliteStore('an order with user data, which would run twice, is not hedged', async (t, store, { clock }) => {
  const { pipeline, id } = await ordered(t, store, clock, 2, { userData: '#cloud-config\n' });
  await isLeftAlone(t, pipeline, id);
});

sqliteStore('hedges that are switched off are none', async (t, store, { clock }) => {
  const { pipeline, id } = await ordered(t, store, clock, 2);
  const { admitDeps } = pipeline;
  const off = new Hedging({ ...admitDeps, log: silentLog }, { hedge: false });
  pipeline.lookForSlow = () => off.look();
  await isLeftAlone(t, pipeline, id);
});

/** A request whose first machine has everything but SSH, and deploys before that took their usual time. */
async function ordered(
  t: Test,
  store: Parameters<typeof Pipeline.open>[1],
  clock: Parameters<typeof Pipeline.open>[2],
  machines: number,
  { deploys = 20, usual = USUAL, ...order }: { deploys?: number; usual?: number; userData?: string } = {},
): Promise<{ pipeline: Pipeline; id: string }> {
  const pipeline = await Pipeline.open(t, store, clock, { machines });
  deaf(pipeline, 0);
  const id = await pipeline.order(order);
  await measured(pipeline, id, { deploys, usual });
  return { pipeline, id };
}

function hedged(pipeline: Pipeline, id: string): Promise<void> {
  return looking(pipeline, 'a second machine is tried', async () => (await attempts(pipeline, id)).length === 2);
}

async function isLeftAlone(t: Test, pipeline: Pipeline, id: string): Promise<void> {
  const { clock, store } = pipeline;
  const until = clock.now() + 2 * USUAL;
  await looking(pipeline, 'it is slow', () => Promise.resolve(clock.now() >= until));
  deaf(pipeline);
  await pipeline.untilRequest(id, 'completed');
  t.match(await attempts(pipeline, id), [{ outcome: 'succeeded', outrun_at: null }]);
  t.equal((await attemptsOf(store.read, id)).length, 1);
  await pipeline.isHealthy(t);
}

function attempts({ store }: Pipeline, id: string) {
  return attemptsOf(store.read, id);
}

/** Hedged once, outrun once, for operators alone; and its tenant knows of one server, of which so much is held. */
async function isTold(
  t: Test,
  pipeline: Pipeline,
  id: string,
  { allocated, outrun = 1 }: { readonly allocated?: number; readonly outrun?: number },
): Promise<void> {
  const events = (await pipeline.events()).filter(({ key }) => key === id);
  const of = (wanted: string) => events.filter(({ type }) => type === wanted);
  t.match(of('provisioning.hedged'), [{ tenantId: undefined, data: { attempt: 2, usualMs: USUAL } }]);
  t.equal(of('provisioning.outrun').length, outrun);
  t.equal(of('provisioning.completed').length, 1);
  t.equal(of('service.activated').length, 1);
  for (const none of ['provisioning.failed', 'provisioning.attempt-moved']) t.same(of(none), []);
  const toTenant = of('resource.allocated').filter(({ tenantId }) => tenantId === 't1');
  if (allocated !== undefined) t.equal(toTenant.length, allocated);
  await hearsOfOne(t, pipeline, id);
}

/** Operators are told what every machine and agent reports; the tenant nothing of a hedge before it has the server, nor of what was outrun. */
async function hearsOfOne(t: Test, pipeline: Pipeline, id: string): Promise<void> {
  const events = await pipeline.events();
  const completed = events.findIndex(({ type, key }) => type === 'provisioning.completed' && key === id);
  for (const { id: attemptId, number, hedges, outrun_at } of await attempts(pipeline, id)) {
    const isOf = (data: object) => 'attemptId' in data && data.attemptId === attemptId;
    const reports = events.filter(({ type, data }) => /^(boot|agent)\./.test(type) && isOf(data));
    t.ok(reports.length > 0, 'operators hear of each');
    const heard = reports.filter(({ tenantId }) => tenantId === 't1');
    if (hedges !== null) t.same(heard, [], `attempt ${String(number)} is a hedge`);
    else t.ok(heard.length > 0, `attempt ${String(number)} is the server to be`);
    if (outrun_at !== null)
      t.ok(
        heard.every((event) => events.indexOf(event) < completed),
        'until it was outrun',
      );
  }
}

/** Of its disk: more than there is, and it suits no order, though it is free. */
async function wants({ store, machineIds }: Pipeline, index: number, minBytes: number): Promise<void> {
  const rule = { disk_rule: JSON.stringify({ minBytes }) };
  const id = machineIds[index] ?? '';
  await store.transaction((tx) => tx.updateTable('machines').set(rule).where('id', '=', id).execute());
}

async function reasons({ store }: Pipeline): Promise<(string | null)[]> {
  const sagas = store.read.selectFrom('sagas').select('reason').where('name', '=', 'provision').orderBy('id');
  return (await sagas.execute()).map(({ reason }) => reason);
}

function quota({ store }: Pipeline) {
  return store.read.selectFrom('quotas').selectAll().where('tenant_id', '=', 't1').executeTakeFirstOrThrow();
}
