import fastify from 'fastify';
import type { Test } from 'tap';

import { eachStore, sqliteStore } from '../store/test-stores.ts';
import type { Right, Standing } from '../tenants/scopes.ts';
import { refusal } from '../tenants/scopes.ts';
import type { ApiBench, Answer } from './api.fixture.ts';
import { Caller, apiBench, codeOf, described, order } from './api.fixture.ts';
import { everyRouteSaysWhoMay } from './auth.ts';

eachStore('a request without a valid key gets 401 and changes nothing', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { keyId, member } = await bench.tenant('acme');
  for (const authorization of ['', 'Basic YTpi', 'Bearer', `Bearer ${member.key} ${member.key}`]) {
    const answer = await bench.app.inject({ url: '/api/v1/servers', headers: { authorization } });
    t.equal(answer.statusCode, 401, JSON.stringify(authorization));
    t.equal(answer.json<{ error: { code: string } }>().error.code, 'auth.missing');
  }
  t.equal(codeOf(await new Caller(bench.app, `${member.key.slice(0, -1)}x`).get('/servers')), 'auth.invalid');

  t.equal((await member.get('/servers')).status, 200);
  t.equal((await bench.operator.delete(`/api-keys/${keyId}`)).status, 204);
  t.equal(codeOf(await member.get('/servers')), 'auth.revoked');
  t.equal((await bench.operator.delete(`/api-keys/${keyId}`)).status, 204, 'revoking twice is once');
  t.equal(codeOf(await bench.operator.delete('/api-keys/key_none')), 'not-found');
});

sqliteStore('every documented route asks for a key, and for the right that it says', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock, { rateLimit: { perSecond: 10_000, burst: 10_000 } });
  const { id: tenantId } = await bench.tenant('acme');
  const standings: Standing[] = [
    ...(['operator', 'auditor'] as const).map((role) => ({ role, tenantId: undefined, scopes: ['*'] as const })),
    ...(['tenant-admin', 'member', 'auditor'] as const).map((role) => ({ role, tenantId, scopes: ['*'] as const })),
    { role: 'operator', tenantId: undefined, scopes: ['servers:read', 'tenants:write'] },
    { role: 'member', tenantId, scopes: ['servers:write', 'fleet:read'] },
  ];
  const routes = await documented(bench);
  t.ok(routes.length > 30, `${routes.length} routes`);
  for (const standing of standings) {
    const caller = await bench.caller(standing);
    for (const { method, path, right } of routes) {
      const name = `${method} ${path} (${right}) by ${standing.role} with ${standing.scopes.join()}`;
      const anywhere = path.replaceAll(/\{\w+\}/g, 'x_1');
      t.equal((await new Caller(bench.app, 'nobody').send(method, anywhere)).status, 401, `${name}: without a key`);
      // Without a body: who may not call is told so before anything of the request is looked at.
      const answer = await caller.send(method, anywhere);
      if (refusal(standing, right as Right) === undefined) t.notMatch(answer.text, 'auth.forbidden', name);
      else t.match(answer.body, { error: { code: 'auth.forbidden', details: { right, role: standing.role } } }, name);
    }
  }
});

sqliteStore('an API with a route that does not say who may call it does not start', async (t) => {
  const app = fastify();
  everyRouteSaysWhoMay(app);
  app.get('/open', { config: { right: 'public' } }, () => 'come in');
  app.get('/forgotten', () => 'come in');
  await t.rejects(async () => app.ready(), { message: /(GET|HEAD) \/forgotten/ });
});

eachStore("another tenant's server looks as if it did not exist", async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  await described(bench, store);
  const [owner, stranger] = [await bench.tenant('acme'), await bench.tenant('rival')];
  const { id } = (await owner.member.post('/servers', order())).body as { id: string };
  await bench.sequence();

  for (const { method, path } of (await documented(bench)).filter((known) => known.path.includes('/servers/{id}'))) {
    const foreign = await stranger.member.send(method, path.replace('{id}', id));
    const absent = await stranger.member.send(method, path.replace('{id}', 'srv_none'));
    t.equal(foreign.status, 404, path);
    t.equal(foreign.text.replaceAll(id, 'srv_none'), absent.text, `${method} ${path} answers the same for both`);
    t.not((await owner.member.send(method, path.replace('{id}', id))).status, 404, `${method} ${path} for its owner`);
  }
  t.same((await stranger.member.get('/servers')).body, { servers: [] });
  t.notMatch((await stranger.member.get('/events')).text, id);
  t.match((await owner.member.get('/events')).text, id);
  t.match((await bench.operator.get('/servers')).text, id);
  t.equal(codeOf(await stranger.member.post('/servers', order({ tenant: owner.id }))), 'auth.forbidden');
});

sqliteStore('the OpenAPI 3.1 document describes every route, its answers and its errors', async (t, store, context) => {
  const bench = await apiBench(t, store, context.clock);
  const document = await openApi(bench);
  t.match(document.openapi, /^3\.1\./);
  t.equal(document.info.title, 'Rackstart');
  t.same(document.security, [{ key: [] }]);
  for (const [path, methods] of Object.entries(document.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const name = `${method} ${path}`;
      t.ok(operation.summary, `${name} says what it does`);
      t.ok(operation.tags?.length, `${name} has a tag`);
      t.ok(operation.responses['4XX'] && operation.responses['5XX'], `${name} describes its errors`);
      t.ok(operation.responses['429']?.headers?.['Retry-After'], `${name} may be refused for a while`);
      const success = Object.entries(operation.responses).find(([status]) => /^(101|2..)$/.test(status));
      t.ok(success, `${name} describes success`);
      if (!['101', '204'].includes(success?.[0] ?? ''))
        t.ok(Object.values(success?.[1].content ?? {})[0]?.schema, `${name} has a schema`);
      for (const parameter of path.match(/\{\w+\}/g) ?? []) {
        t.ok(
          operation.parameters?.some((known) => `{${known.name}}` === parameter && known.in === 'path'),
          name,
        );
      }
    }
  }
  everyReferenceLeadsSomewhere(t, document);
  const page = await bench.app.inject({ url: '/docs/' });
  t.equal(page.statusCode, 200, 'people read it without a key');
});

sqliteStore('an unknown route and a body that is no JSON are answered in the one error shape', async (t, store, c) => {
  const { app, operator } = await apiBench(t, store, c.clock);
  t.equal(codeOf(await operator.get('/nothing')), 'not-found');
  t.equal(codeOf(await operator.get('/servers/%zz')), 'request.invalid');
  for (const [type, payload] of [
    ['application/json', '{"name":'],
    ['application/json', ''],
    ['application/json', '{"__proto__":{"name":"x"},"name":"y"}'],
  ] as const) {
    const headers = { ...operator.headers, 'content-type': type };
    const answer = await app.inject({ method: 'POST', url: '/api/v1/regions', headers, payload });
    t.equal(answer.statusCode, 400, payload.slice(0, 20));
    const { error } = answer.json<{ error: Record<string, unknown> }>();
    t.match(error, { code: 'request.invalid', message: String, hint: String });
  }
  t.same((await operator.get('/regions')).body, { regions: [] });
});

eachStore('no key and no BMC password is ever answered or logged', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { rack } = await described(bench, store);
  const { operator } = bench;
  const password = 'hunter2hunter2';
  const bmc = { address: '10.0.0.1', username: 'admin', password };
  const nics = [{ mac: '52:54:00:00:00:01', role: 'both' }];
  const answers: Answer[] = [
    await operator.post('/machines', { name: 'm1', rack, bmc, nics }),
    await operator.post('/machines', { name: 'm1', rack, bmc, nics }),
    await operator.post('/machines', { name: 'm2', rack, bmc: { ...bmc, password: password.repeat(3) }, nics }),
  ];
  t.same(
    answers.map(({ status }) => status),
    [202, 400, 400],
  );
  const issued = await operator.post('/api-keys', { name: 'second' });
  const { key } = issued.body as { key: string };
  t.equal((await new Caller(bench.app, key).get('/machines')).status, 200, 'the key works');
  for (const path of ['/machines', '/api-keys', '/events', '/racks']) answers.push(await operator.get(path));
  await bench.sequence();
  answers.push(await operator.get('/events'));

  const said = answers
    .slice(0, 3)
    .concat(answers.slice(4))
    .map(({ text }) => text);
  for (const secret of [password, key, operator.key, 'sealed for']) {
    for (const text of [...said, bench.logged()]) t.notMatch(text, secret);
  }
  const row = await store.read.selectFrom('machines').select('bmc_password').executeTakeFirstOrThrow();
  t.match(row.bmc_password, /^sealed for mch_/, 'what is kept is sealed');
});

interface OpenApi {
  openapi: string;
  info: { title: string };
  security: unknown;
  paths: Record<string, Record<string, Operation>>;
}

interface Operation {
  summary?: string;
  tags?: string[];
  security?: Record<string, string[]>[];
  parameters?: { name: string; in: string }[];
  responses: Record<string, { headers?: Record<string, unknown>; content?: Record<string, { schema?: unknown }> }>;
}

async function openApi({ app }: ApiBench): Promise<OpenApi> {
  return (await app.inject({ url: '/docs/json' })).json();
}

interface Route {
  readonly method: string;
  readonly path: string;
  readonly right: string;
}

async function documented(bench: ApiBench): Promise<Route[]> {
  const { paths } = await openApi(bench);
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { security }]) => {
      const right = security?.[0]?.['key']?.[0] ?? '';
      return { method: method.toUpperCase(), path: path.replace('/api/v1', ''), right };
    }),
  );
}

function everyReferenceLeadsSomewhere(t: Test, document: object): void {
  for (const [, pointer = ''] of JSON.stringify(document).matchAll(/"\$ref":"#\/([^"]+)"/g)) {
    let place: unknown = document;
    for (const name of pointer.split('/')) place = (place as Record<string, unknown> | undefined)?.[name];
    t.ok(place, pointer);
  }
}
