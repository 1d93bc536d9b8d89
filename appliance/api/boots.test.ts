import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { Test } from 'tap';

import { createIds } from '../kernel/ids.ts';
import type { ManualClock } from '../kernel/manual-clock.ts';
import { placeOrder } from '../machines/boot-order.ts';
import type { ServerSpec } from '../providers/provider.ts';
import { endAttempt } from '../requests/attempts.ts';
import type { Store } from '../store/store.ts';
import { eachStore } from '../store/test-stores.ts';
import type { ApiBench } from './api.fixture.ts';
import { apiBench, codeOf, described, order } from './api.fixture.ts';

interface Boots {
  boots: { session: string; generation: number }[];
}

eachStore("a machine's boots are listed newest first, a page at a time", async (t, store, { clock }) => {
  const { operator, machine, boot } = await rack(t, store, clock);
  const generations = async (query: string) => {
    const { boots } = (await operator.get(`/machines/${machine}/boots${query}`)).body as Boots;
    return boots.map(({ generation }) => generation);
  };
  t.same(await generations(''), []);
  for (let times = 0; times < 5; times++) await boot();
  t.same(await generations(''), [5, 4, 3, 2, 1]);
  t.same(await generations('?limit=2'), [5, 4]);
  t.same(await generations('?limit=2&before=4'), [3, 2]);
  t.same(await generations('?before=1'), []);
  t.equal(codeOf(await operator.get(`/machines/${machine}/boots?limit=0`)), 'request.invalid');
  t.equal(codeOf(await operator.get('/machines/mch_none/boots')), 'not-found');
  const { boots } = (await operator.get(`/machines/${machine}/boots?limit=2`)).body as Boots;
  const opened = new Date(clock.now()).toISOString();
  const named = { machine: { id: machine, name: 'm1', firmware: null }, verb: 'wait' };
  t.match(boots, [
    { ...named, state: 'opened', openedAt: opened, endedAt: null, endReason: null },
    { ...named, openedAt: opened, endedAt: opened, endReason: 'replaced' },
  ]);
});

eachStore('a boot is shown with its stages and what was seen of it', async (t, store, { clock }) => {
  const { operator, machine, boot } = await rack(t, store, clock);
  const session = await boot();
  await seen(store, machine, session, clock.now());
  const at = new Date(clock.now()).toISOString();
  t.match((await operator.get(`/boots/${session}`)).body, {
    session,
    state: 'opened',
    seenAt: at,
    stages: [
      { name: 'power', startedAt: at, endedAt: null },
      { name: 'dhcp', startedAt: at, endedAt: null },
    ],
    entries: [{ at, source: 'console', name: 'output', detail: { text: 'hello\n' } }],
  });
  t.equal(codeOf(await operator.get('/boots/boot_none')), 'not-found');
});

eachStore('the bundle of a boot is a download', async (t, store, { clock }) => {
  const bench = await rack(t, store, clock);
  const session = await bench.boot();
  await seen(store, bench.machine, session, clock.now());
  const {
    operator: { headers },
  } = bench;
  const answer = await bench.app.inject({ url: `/api/v1/boots/${session}/bundle`, headers });
  t.equal(answer.statusCode, 200);
  t.match(answer.headers, {
    'content-type': 'application/gzip',
    'content-disposition': `attachment; filename="${session}.tar.gz"`,
  });
  t.match(await unpacked(answer.rawPayload, `${session}/console.log`), 'hello\n');
  t.match(await unpacked(answer.rawPayload, `${session}/boot.json`), session);
  t.equal(codeOf(await bench.operator.get('/boots/boot_none/bundle')), 'not-found');
});

eachStore('the boots that installed a server are found by it', async (t, store, { clock }) => {
  const bench = await rack(t, store, clock);
  const tenant = await bench.tenant('acme');
  const { id } = (await tenant.member.post('/servers', order())).body as { id: string };
  await bench.boot();
  t.same((await bench.operator.get(`/boots?server=${id}`)).body, { boots: [] }, 'it has not booted yet');
  const session = await bench.install(id, tenant.id);
  await bench.boot();
  t.match((await bench.operator.get(`/boots?server=${id}`)).body, { boots: [{ session, verb: 'install' }] });
  t.equal(codeOf(await bench.operator.get('/boots?server=srv_none')), 'not-found');
  t.equal(codeOf(await bench.operator.get('/boots')), 'request.invalid');
});

eachStore('a boot is diagnosed by what was seen of it', async (t, store, { clock }) => {
  const bench = await rack(t, store, clock);
  const session = await bench.boot();
  const diagnosis = async () => (await bench.operator.get(`/boots/${session}/diagnosis`)).body;
  t.match(await diagnosis(), { verdict: 'under-way', hop: 'bmc', findings: [] });
  const row = { id: 'tl_1', machine_id: bench.machine, session_id: session, at: clock.now(), source: 'bmc' } as const;
  const refused = { ...row, name: 'Open Session', detail: JSON.stringify({ error: 'bmc.auth' }) };
  await store.transaction((tx) => tx.insertInto('timeline').values(refused).execute());
  await clock.advance(5 * 60_000);
  t.match(await diagnosis(), {
    verdict: 'found',
    findings: [{ cause: 'bmc-credentials', blame: 'machine', evidence: [/bmc Open Session error=bmc\.auth/] }],
  });
  t.equal(codeOf(await bench.operator.get('/boots/boot_none/diagnosis')), 'not-found');
});

eachStore('an attempt tells operators why its boot failed, and nobody else', async (t, store, { clock }) => {
  const bench = await rack(t, store, clock);
  const tenant = await bench.tenant('acme');
  const { id } = (await tenant.member.post('/servers', order())).body as { id: string };
  const session = await bench.install(id, tenant.id);
  const diagnosis = async (caller = bench.operator) => {
    const { attempts } = (await caller.get(`/servers/${id}`)).body as { attempts: { diagnosis: unknown }[] };
    return attempts.map((attempt) => attempt.diagnosis);
  };
  t.same(await diagnosis(), [null], 'none has failed');
  const [row] = await store.read.selectFrom('sagas').select('params').where('name', '=', 'provision').execute();
  const spec = JSON.parse(row?.params ?? '') as ServerSpec;
  const reason = { code: 'bmc.auth', message: 'The BMC refused the password.' } as const;
  const refused = { machine_id: bench.machine, session_id: session, at: clock.now(), source: 'bmc' } as const;
  const detail = JSON.stringify({ error: reason.code });
  await store.transaction(async (tx) => {
    await tx
      .insertInto('timeline')
      .values({ id: 'tl_1', ...refused, name: 'Open Session', detail })
      .execute();
    await endAttempt(tx, { events: bench.events, ids: createIds(clock) }, spec, { reason, at: clock.now() });
  });
  const found = [{ verdict: 'found', findings: [{ cause: 'bmc-credentials', remedy: /\w/, evidence: [/bmc\.auth/] }] }];
  t.match(await diagnosis(), found);
  t.match((await bench.operator.get('/servers')).body, { servers: [{ attempts: [{ diagnosis: found[0] }] }] });
  t.same(await diagnosis(tenant.member), [null], 'it names what is the operators’');
  t.notMatch(JSON.stringify((await tenant.member.get('/servers')).body), 'bmc-credentials');
});

eachStore('boots are for operators', async (t, store, { clock }) => {
  const bench = await rack(t, store, clock);
  const session = await bench.boot();
  const { member } = await bench.tenant('acme');
  for (const path of [
    `/machines/${bench.machine}/boots`,
    '/boots?server=srv_none',
    `/boots/${session}`,
    `/boots/${session}/diagnosis`,
    `/boots/${session}/bundle`,
  ]) {
    t.equal(codeOf(await member.get(path)), 'auth.forbidden', path);
  }
});

/** The API with one machine, which is made to boot. */
async function rack(t: Test, store: Store, clock: ManualClock) {
  const bench: ApiBench = await apiBench(t, store, clock);
  const { rack: id } = await described(bench, store);
  const nics = [{ mac: '52:54:00:00:00:0a', role: 'both' }];
  const bmc = { address: '10.0.0.1', username: 'admin', password: 'hunter2' };
  const { id: machine } = (await bench.operator.post('/machines', { name: 'm1', rack: id, bmc, nics })).body as {
    id: string;
  };
  const at = { at: clock.now(), windowUntil: clock.now() + 60_000 };
  const ids = createIds(clock);
  const place = async (what: Parameters<typeof placeOrder>[2]) =>
    (await store.transaction((tx) => placeOrder(tx, ids, what, at))).sessionId;
  return {
    ...bench,
    machine,
    boot: () => place({ machineId: machine, verb: 'wait' }),
    install: async (requestId: string, tenantId: string) => {
      const attempts = store.read.selectFrom('attempts').select('id').where('request_id', '=', requestId);
      const { id: attemptId } = await attempts.executeTakeFirstOrThrow();
      const plan = { digest: 'ab', tenant_id: tenantId, body: '{}', created_at: 0 };
      await store.transaction((tx) => tx.insertInto('install_plans').values(plan).execute());
      return place({ machineId: machine, verb: 'install', planDigest: plan.digest, attemptId, tenantId });
    },
  };
}

async function seen(store: Store, machine: string, session: string, at: number): Promise<void> {
  const row = { id: 'tl_1', machine_id: machine, session_id: session, at, source: 'console', name: 'output' } as const;
  const detail = JSON.stringify({ text: 'hello\n' });
  await store.transaction((tx) =>
    tx
      .insertInto('timeline')
      .values({ ...row, detail })
      .execute(),
  );
}

/** One file of a gzipped tar. */
async function unpacked(bundle: Buffer, name: string): Promise<string> {
  const running = promisify(execFile)('tar', ['-xzOf', '-', name]);
  running.child.stdin?.end(bundle);
  return (await running).stdout;
}
