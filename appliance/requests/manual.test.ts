import { HOUR, MINUTE, SECOND } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import { silentLog } from '../kernel/log.ts';
import type { AccessDetails } from '../providers/manual/access-details.ts';
import { awaitedAccess, enterAccess } from '../providers/manual/access-entry.ts';
import { manual } from '../providers/manual/manual.ts';
import type { ServerSpec } from '../providers/provider.ts';
import { proveProvider } from '../providers/provider-proof.ts';
import type { Store } from '../store/store.ts';
import { eachStore, sqliteStore } from '../store/test-stores.ts';
import { VERIFY_DEADLINE } from './daemon.fixture.ts';
import { Pipeline, sshKey } from './pipeline.fixture.ts';
import { countInFlight } from './queue.ts';
import { Queued } from './queued.fixture.ts';
import { findRequest } from './request-records.ts';
import { viewServer } from './server-view.ts';
import { StalledRequests } from './stalled.ts';

const details: AccessDetails = {
  username: 'root',
  addresses: ['198.51.100.7'],
  hostKey: sshKey.split(' ').slice(0, 2).join(' '),
  verify: true,
};

eachStore(
  'a server made by hand waits for its access details, is proven by SSH, and is given back',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock);
    const probed: unknown[] = [];
    pipeline.atProbe = (target) => {
      probed.push(target);
      return target;
    };
    const id = await pipeline.order({ provider: 'manual' });
    await pipeline.untilRequest(id, 'activating');
    await pipeline.settle();
    t.match((await viewServer(store.read, id)).attempts[0]!.steps, [
      { name: 'allocate', state: 'done' },
      { name: 'configure', state: 'done' },
      { name: 'activate', state: 'awaiting-input' },
    ]);
    t.equal((await countInFlight(store.read, 't1')).ofTenant, 0, 'it takes no place of its tenant');

    // Long after the half hour in which something must happen elsewhere.
    await clock.advance(HOUR);
    const watch = stalled(pipeline);
    await watch.look();
    t.equal((await findRequest(store.read, id)).state, 'activating');

    await enter(pipeline, id);
    t.equal((await countInFlight(store.read, 't1')).ofTenant, 1, 'now it is worked on');
    await watch.look();
    await pipeline.untilRequest(id, 'completed', 'rolled-back');
    t.match(probed, [
      { host: '198.51.100.7', port: 22, username: 'root', hostKey: details.hostKey, publicKey: sshKey },
    ]);
    const { username, addresses, hostKey } = details;
    t.same((await viewServer(store.read, id)).connection, { username, addresses, hostKey });

    await pipeline.release(id);
    await pipeline.untilRequest(id, 'deprovisioned');
    const told = (await pipeline.events()).filter(({ type }) => type.startsWith('access.') || type === 'alert.raised');
    t.match(told, [
      { type: 'access.asked', data: { requestId: id, hostname: 'web1' } },
      { type: 'access.entered', actor: 'key_op', data: { username: 'root', addresses } },
      { type: 'access.closed', data: { addresses } },
      { type: 'alert.raised', data: { subject: id, message: /web1 at 198\.51\.100\.7 was given back/ } },
    ]);
    await pipeline.isHealthy(t);
  },
);

eachStore('who is cancelled while a person is awaited is waited for no longer', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const id = await pipeline.order({ provider: 'manual' });
  await pipeline.untilRequest(id, 'activating');
  await pipeline.settle();
  const attemptId = await attemptOf(store, id);
  await pipeline.release(id);
  await pipeline.untilRequest(id, 'rolled-back');
  t.same(await awaitedAccess(store.read), []);
  await t.rejects(enter(pipeline, id, details, attemptId), { code: 'not-found' });
  const alerts = (await pipeline.events()).filter(({ type }) => type === 'alert.raised');
  t.same(alerts, [], 'nobody has made anything that must be taken back');
  await pipeline.isHealthy(t);
});

sqliteStore(
  'a server that never lets the tenant in is given back, as one of bare metal is',
  async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock);
    pipeline.atProbe = () => {
      throw new RackstartError('ssh.unreachable', 'nobody there');
    };
    const id = await pipeline.order({ provider: 'manual' });
    await pipeline.untilRequest(id, 'activating');
    await pipeline.settle();
    await enter(pipeline, id);
    const at = clock.now();
    await pipeline.untilRequest(id, 'rolled-back');
    t.match(JSON.parse((await findRequest(store.read, id)).failure!), { code: 'ssh.unreachable', step: 'verify' });
    t.ok(clock.now() - at >= VERIFY_DEADLINE - 2 * SECOND, 'not before it had its time');
    await pipeline.isHealthy(t);
  },
);

sqliteStore('where SSH cannot be tried from here, a person is taken at their word', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  pipeline.atProbe = () => {
    throw new RackstartError('ssh.unreachable', 'it was tried');
  };
  const id = await pipeline.order({ provider: 'manual' });
  await pipeline.untilRequest(id, 'activating');
  await enter(pipeline, id, { ...details, hostKey: null, verify: false });
  await pipeline.untilRequest(id, 'completed', 'rolled-back');
  t.match(await viewServer(store.read, id), { status: 'active', connection: { hostKey: null } });
});

sqliteStore('details that come while the daemon is down are found when it starts', async (t, store, { clock }) => {
  const pipeline = await Pipeline.open(t, store, clock);
  const id = await pipeline.order({ provider: 'manual' });
  await pipeline.untilRequest(id, 'activating');
  await pipeline.settle();
  const { events } = new Queued(store, clock);
  pipeline.kill();
  const attemptId = await attemptOf(store, id);
  await store.transaction((tx) => enterAccess(tx, events, { attemptId, details, actor: 'key_op', at: clock.now() }));
  pipeline.restart();
  await pipeline.untilRequest(id, 'completed', 'rolled-back');
  t.equal((await findRequest(store.read, id)).state, 'completed');
});

sqliteStore('the manual provider passes the suite of providers', async (t, store, { clock }) => {
  const queued = new Queued(store, clock);
  await queued.describe(['t1']);
  const { events } = queued;
  const provider = manual({ events, deadline: MINUTE, probe: () => Promise.resolve() });
  const request = async (): Promise<ServerSpec> => {
    const [requestId = ''] = await store.transaction((tx) =>
      queued.queue(tx, 't1', 1, { state: 'activating', provider: 'manual' }),
    );
    const attemptId = await attemptOf(store, requestId);
    const flavor = await store.read.selectFrom('flavors').selectAll().executeTakeFirstOrThrow();
    const image = await store.read.selectFrom('images').selectAll().executeTakeFirstOrThrow();
    const who = { requestId, attemptId, tenantId: 't1', provider: 'manual', cluster: null, hostname: 'web1' };
    return { ...who, regionId: 'reg1', flavor, image, sshKeys: [sshKey] };
  };
  const elapse = async ({ attemptId }: ServerSpec) => {
    const entering = { attemptId, details, actor: 'key_op', at: clock.now() };
    await store.transaction((tx) => enterAccess(tx, events, entering));
  };
  for (const { clause, problems } of await proveProvider({ provider, store, clock, request, elapse }))
    t.same(problems, [], clause);
});

async function enter(pipeline: Pipeline, requestId: string, entered = details, attemptId?: string): Promise<void> {
  const { store, clock, daemon } = pipeline;
  const { events } = daemon.process;
  const attempt = attemptId ?? (await attemptOf(store, requestId));
  const entering = { attemptId: attempt, details: entered, actor: 'key_op', at: clock.now() };
  await store.transaction((tx) => enterAccess(tx, events, entering));
}

function stalled({ store, clock, daemon }: Pipeline): StalledRequests {
  const { events, sagas } = daemon.process;
  return new StalledRequests({ store, events, sagas, clock, log: silentLog }, 30 * MINUTE);
}

async function attemptOf(store: Store, requestId: string): Promise<string> {
  const { id } = await store.read
    .selectFrom('attempts')
    .select('id')
    .where('request_id', '=', requestId)
    .executeTakeFirstOrThrow();
  return id;
}
