import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { WebSocket } from 'ws';

import { parseMac } from '../../pxe/boot-client.ts';
import type { TimelineEntry } from '../../pxe/timeline.ts';
import { MINUTE, SECOND } from '../kernel/clock.ts';
import { timedDeploys } from '../requests/deploy-times.fixture.ts';
import type { TimedDeploy } from '../requests/deploy-times.fixture.ts';
import { eachStore, sqliteStore } from '../store/test-stores.ts';
import type { ApiBench } from './api.fixture.ts';
import { Caller, apiBench, described, order } from './api.fixture.ts';
import { Metrics } from './metrics.ts';

sqliteStore("Prometheus needs an operator's key", async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { member } = await bench.tenant('acme');
  const status = async (headers: Record<string, string>) =>
    (await bench.app.inject({ url: '/metrics', headers })).statusCode;
  t.equal(await status({}), 401);
  t.equal(await status(member.headers), 403);
  const answer = await bench.app.inject({ url: '/metrics', headers: bench.operator.headers });
  t.equal(answer.statusCode, 200);
  t.match(answer.headers['content-type'], 'text/plain; version=0.0.4');
  const lines = answer.body.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  t.same(
    lines.filter(
      (line) => !/^[a-z_0-9]+(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? -?([0-9.e+-]+|\+?Inf|Nan)$/i.test(line),
    ),
    [],
    'each line is a sample',
  );
  for (const name of ['process_cpu_seconds_total', 'process_resident_memory_bytes', 'nodejs_eventloop_lag_p99_seconds'])
    t.ok(
      lines.some((line) => line.startsWith(name)),
      name,
    );
});

eachStore('requests, attempts, machines and sagas are told by state', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { rack } = await described(bench, store);
  const { id, member } = await bench.tenant('acme');
  const bmc = { address: '10.0.0.1', username: 'admin', password: 'hunter2hunter2' };
  const nics = [{ mac: '52:54:00:00:00:01', role: 'both' }];
  t.equal((await bench.operator.post('/machines', { name: 'm1', rack, bmc, nics })).status, 202);
  t.equal((await member.post('/servers', order())).status, 202);
  t.equal((await member.post('/servers', order({ image: 'windows' }))).status, 400);
  t.equal((await new Caller(bench.app, 'nobody').post('/servers', order())).status, 401);
  const text = await scraped(bench);
  for (const line of [
    'rackstart_requests{state="allocating"} 1',
    'rackstart_attempts{outcome="running"} 1',
    'rackstart_machines{state="inspecting"} 1',
    'rackstart_sagas{state="running"} 2',
    'rackstart_order_stage_seconds_count{stage="auth"} 2',
    'rackstart_order_stage_seconds_count{stage="validation"} 2',
    'rackstart_order_stage_seconds_count{stage="quota"} 1',
    'rackstart_order_stage_seconds_count{stage="admission"} 1',
  ])
    t.ok(text.includes(`${line}\n`), line);
  for (const secret of [id, member.key, bmc.password, '52:54:00']) t.notOk(text.includes(secret), secret);

  await store.transaction((tx) => tx.updateTable('requests').set({ state: 'failed' }).execute());
  t.match(
    await scraped(bench),
    'rackstart_requests{state="allocating"} 1\n',
    'the database is not asked at every scrape',
  );
  await clock.advance(MINUTE);
  const later = await scraped(bench);
  t.match(later, 'rackstart_requests{state="failed"} 1\n');
  t.match(later, 'rackstart_requests{state="allocating"} 0\n', 'a state that is left is 0, not gone');
});

sqliteStore('API requests are told by route, whatever path strangers try', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock, { rateLimit: { perSecond: 1, burst: 30 } });
  const { operator } = bench;
  await operator.get('/servers/srv_1');
  await operator.get('/servers/srv_2');
  const stranger = { method: 'PATCH', remoteAddress: '192.0.2.1' } as const;
  for (let number = 0; number < 40; number += 1) await bench.app.inject({ ...stranger, url: `/x${number}` });
  const text = await scraped(bench);
  t.match(text, 'request_seconds_count{method="GET",route="/api/v1/servers/:id",status="404"} 2\n');
  t.match(text, 'request_seconds_count{method="any",route="none",status="404"} 30\n');
  t.match(text, 'request_seconds_count{method="any",route="none",status="429"} 10\n');
  t.match(text, 'rackstart_api_rate_limited_total{by="address"} 10\n');
  t.notMatch(text, /srv_1|x39/);

  await bench.app.listen({ host: '127.0.0.1', port: 0 });
  const { port } = bench.app.server.address() as AddressInfo;
  const socket = new WebSocket(`ws://127.0.0.1:${port}/api/v1/events/live`, { headers: operator.headers });
  t.teardown(() => socket.terminate());
  await once(socket, 'open');
  t.match(await scraped(bench), 'rackstart_api_live_connections 1\n');
  socket.close();
  await once(socket, 'close');
  const after = await scraped(bench);
  t.match(after, 'rackstart_api_live_connections 0\n');
  t.notMatch(after, /events\/live/, 'how long somebody listened is no time of an answer');
});

eachStore('deploys are told by percentile, for all and by kind', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const endedAt = clock.now();
  await timedDeploys(store, [
    { endedAt, model: 'R640', firmware: 'uefi', spans: { total: 40, image: 20 } },
    { endedAt, model: 'R640', firmware: 'uefi', spans: { total: 90, image: 21.5 } },
    { endedAt, model: null, firmware: null, spans: { total: 50 } },
  ]);
  const text = await scraped(bench);
  const kind = 'model="R640",firmware="uefi",path="cold"';
  for (const line of [
    'rackstart_deploys 3',
    'rackstart_deploys_within_target_ratio 0.6666666666666666',
    'rackstart_deploy_target_seconds 78',
    'rackstart_deploy_seconds{span="total",quantile="0.5"} 50',
    'rackstart_deploy_seconds{span="total",quantile="0.99"} 90',
    `rackstart_deploy_kind_seconds{${kind},span="image",quantile="0.99"} 21.5`,
    `rackstart_deploy_kind_deploys{${kind}} 2`,
    `rackstart_deploy_kind_within_target_ratio{${kind}} 0.5`,
    'rackstart_deploy_kind_deploys{model="unknown",firmware="unknown",path="cold"} 1',
  ])
    t.ok(text.includes(`${line}\n`), line);
});

sqliteStore("a model is whatever somebody's firmware says, and no label grows of it", async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const deploy = (model: string): TimedDeploy => ({ endedAt: clock.now(), model, spans: { total: 1 } });
  const hostile = 'evil"} 1\nrackstart_deploys{x="\u0000\u202e\\';
  const twice = [deploy(hostile), deploy(hostile), deploy('M'.repeat(500)), deploy('M'.repeat(500))];
  await timedDeploys(store, [...twice, ...Array.from({ length: 500 }, (_, number) => deploy(`model ${number}`))]);
  const text = await scraped(bench);
  const kinds = text.split('\n').filter((line) => line.startsWith('rackstart_deploy_kind_deploys{'));
  t.equal(kinds.length, 50);
  t.ok(kinds.includes(`rackstart_deploy_kind_deploys{model="${'M'.repeat(64)}",firmware="bios",path="cold"} 2`));
  t.ok(
    kinds.includes(
      String.raw`rackstart_deploy_kind_deploys{model="evil\"} 1rackstart_deploys{x=\"\\",firmware="bios",path="cold"} 2`,
    ),
  );
  t.match(text, '\nrackstart_deploys 504\n');
});

sqliteStore('what the boot plane sees is counted on its way to the timeline', async (t, store, { clock }) => {
  const metrics = new Metrics({ read: store.read, clock, deployTarget: SECOND });
  const entries: TimelineEntry[] = [];
  const timeline = metrics.counting({ seen: (_owner, entry) => entries.push(entry) });
  const mac = parseMac('52:54:00:77:00:01')!;
  const see = (name: string) => timeline.seen(mac, { at: clock.now(), source: 'dhcp', name, detail: {} });
  see('offer');
  see('offer');
  for (let number = 0; number < 1000; number += 1) see(`name-${number}`);
  t.equal(entries.length, 1002, 'all of it arrives');
  const { text } = await metrics.text();
  t.match(text, 'rackstart_boot_plane_seen_total{source="dhcp",name="offer"} 2\n');
  t.equal(
    [...text.matchAll(/^rackstart_boot_plane_seen_total\{/gm)].length,
    101,
    'names are few, whoever makes them up',
  );
});

async function scraped({ app, operator }: ApiBench): Promise<string> {
  return (await app.inject({ url: '/metrics', headers: operator.headers })).body;
}
