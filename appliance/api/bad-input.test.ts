import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';

import { eachStore, sqliteStore } from '../store/test-stores.ts';
import type { Answer, ApiBench } from './api.fixture.ts';
import { apiBench, codeOf, complaints, described, order } from './api.fixture.ts';

sqliteStore('each wrong field is named once, with what it must be', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const { operator } = bench;
  const flavor = { name: 'Small', cores: 0, memoryMib: '1', nics: 'two', 'sl/ow~': true };
  t.same(fieldsOf(await operator.post('/flavors', flavor)), {
    '/diskGib': 'This is missing.',
    '/sl~1ow~0': 'There is no such field.',
    '/name': 'This does not have the right form: Lower case letters, digits, dots and hyphens.',
    '/cores': 'This must be at least 1.',
    '/memoryMib': 'This must be a whole number.',
    '/nics': 'This must be one of same, separate.',
  });
  const machine = { name: 'm1', rack: '', bmc: { address: 'here', username: '', password: 'p'.repeat(21) }, nics: [] };
  t.same(fieldsOf(await operator.post('/machines', machine)), {
    '/rack': 'This must not be empty.',
    '/bmc/address': 'This must be an IPv4 address or an IPv6 address.',
    '/bmc/username': 'This must not be empty.',
    '/bmc/password': 'This may have at most 20 characters.',
    '/nics': 'This must have at least 1 entry.',
  });
  t.same(fieldsOf(await operator.get('/events?after=-1&limit=many&from=here')), {
    '/querystring/from': 'There is no such field.',
    '/querystring/after': 'This must be at least 0.',
    '/querystring/limit': 'This must be a whole number.',
  });
  t.match(fieldsOf(await operator.get('/servers/a%20b')), { '/params/id': /right form/ });
  t.same(fieldsOf(await operator.post('/regions', [])), { '/': 'This must be an object.' });
});

sqliteStore('however much of a body is wrong, its answer is short', async (t, store, { clock }) => {
  const { app, operator } = await apiBench(t, store, clock);
  const sshKeys = Array.from({ length: 60_000 }, () => 1);
  const answer = await operator.post('/servers', order({ sshKeys }));
  t.equal(answer.status, 400);
  t.ok(answer.text.length < 20_000, `${answer.text.length} bytes`);
  const deep = `{"name":${'['.repeat(50_000)}${']'.repeat(50_000)}}`;
  const headers = { ...operator.headers, 'content-type': 'application/json' };
  const nested = await app.inject({ method: 'POST', url: '/api/v1/regions', headers, payload: deep });
  t.equal(nested.statusCode, 400);
  const names = Object.fromEntries(Array.from({ length: 2_000 }, (_, index) => [`${'x'.repeat(100)}${index}`, 1]));
  t.ok((await operator.post('/regions', { name: 'west', ...names })).text.length < 20_000);
});

eachStore('U+0000 is refused in every field, since PostgreSQL can not keep it', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  await described(bench, store);
  const { id, member } = await bench.tenant('acme');
  t.same(complaints(await member.post('/servers', order({ userData: 'a\0b' }))), ['/userData']);
  t.same(complaints(await bench.operator.post('/stuck/x', { action: 'skip', reason: '\0' })), ['/reason']);
  t.same(complaints(await bench.operator.get('/performance?model=a%00b')), ['/querystring/model']);
  t.equal((await bench.operator.post('/servers', order({ tenant: id, userData: 'ab' }))).status, 202);
});

eachStore('numbers that the database can not keep are refused', async (t, store, { clock }) => {
  const { operator } = await apiBench(t, store, clock);
  const flavor = { name: 'huge', cores: 1, memoryMib: 1e300, diskGib: 2 ** 62, nics: 'same' };
  t.same(complaints(await operator.post('/flavors', flavor)), ['/diskGib', '/memoryMib']);
  t.same(complaints(await operator.get('/events?after=1e300')), ['/querystring/after']);
  t.same(complaints(await operator.get('/machines/x/boots?before=1e300')), ['/querystring/before']);
});

sqliteStore('a route refuses the query and the body that it does not take', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  t.same(complaints(await bench.operator.get('/regions?name=west')), ['/querystring/name']);
  t.same(complaints(await bench.operator.post('/machines/x/inspect', { deep: true })), ['/']);
  t.equal(codeOf(await bench.operator.post('/machines/x/inspect', {})), 'not-found', 'an empty object says nothing');
});

sqliteStore('a body of the wrong length, type or method is told what is right', async (t, store, { clock }) => {
  const { app, operator } = await apiBench(t, store, clock);
  const url = '/api/v1/regions';
  const send = (payload: string, type: string) =>
    app.inject({ method: 'POST', url, payload, headers: { ...operator.headers, 'content-type': type } });
  const shape = { error: { message: String, hint: String } };
  const large = await send(JSON.stringify({ name: 'x'.repeat(300_000) }), 'application/json');
  t.match([large.statusCode, large.json()], [413, { ...shape, error: { code: 'request.too-large' } }]);
  for (const type of ['text/plain', 'application/xml', 'application/x-www-form-urlencoded', 'nonsense']) {
    const other = await send('{"name":"west"}', type);
    t.match([other.statusCode, other.json()], [415, { ...shape, error: { code: 'request.media-type' } }], type);
  }
  const image = `/images?name=a&version=1&sha256=${'0'.repeat(64)}&rootPartition=1&kernelArgs=`;
  t.equal((await operator.post(image, { name: 'json' })).status, 415, 'an image is not JSON');
  t.equal((await operator.post(image)).status, 415, 'nor is it nothing');
  const put = await app.inject({ method: 'PUT', url, headers: operator.headers });
  t.match([put.statusCode, put.json()], [405, { ...shape, error: { code: 'request.method' } }]);
  t.equal(put.headers['allow'], 'GET, HEAD, POST');
  t.equal(
    (await app.inject({ method: 'DELETE', url: '/api/v1/servers/srv_1/timeline' })).headers['allow'],
    'GET, HEAD',
  );
  t.equal((await app.inject({ method: 'PUT', url: '/api/v1/nothing' })).statusCode, 404);
  t.same((await operator.get('/regions')).body, { regions: [] });
});

sqliteStore('what Node refuses by itself has the shape of every error', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  await bench.app.listen({ host: '127.0.0.1', port: 0 });
  const head = 'GET /api/v1/regions HTTP/1.1\r\n';
  const upgrade = 'Connection: Upgrade\r\nUpgrade: websocket\r\n';
  for (const [request, status] of [
    [`${head}Connection: close\r\n\r\n`, 400],
    [`${head}Host: x\r\nExpect: tea\r\n\r\n`, 417],
    [`${head}Host: x\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`, 431],
    [`${head}Host x\r\n\r\n`, 400],
    ['HELLO\r\n\r\n', 400],
    [`${head}${upgrade}\r\n`, 400],
    [`GET /api/v1/%zz HTTP/1.1\r\nHost: x\r\n${upgrade}\r\n`, 400],
    [`${head}Host: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n`, 400],
  ] as const) {
    const answer = await shout(bench, request);
    t.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `), JSON.stringify(request.slice(0, 80)));
    t.match(answer, /^content-length: \d+\r$/im, 'it is told how long the answer is');
    const { error } = JSON.parse(answer.slice(answer.indexOf('{'), answer.lastIndexOf('}') + 1)) as { error: object };
    t.match(error, { code: 'request.invalid', message: String, hint: String });
  }
});

sqliteStore('who hangs up in the middle of an image leaves no line in the log', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  await bench.app.listen({ host: '127.0.0.1', port: 0 });
  const { port } = bench.app.server.address() as AddressInfo;
  const image = `/api/v1/images?name=a&version=1&sha256=${'0'.repeat(64)}&rootPartition=1&kernelArgs=`;
  const socket = connect(port, '127.0.0.1');
  socket.write(
    `POST ${image} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${bench.operator.key}\r\n` +
      'Content-Type: application/zstd\r\nContent-Length: 100\r\n\r\nhalf',
  );
  const handled = new Promise((resolve) => {
    subscribe('tracing:fastify.request.handler:asyncEnd', resolve);
    t.teardown(() => unsubscribe('tracing:fastify.request.handler:asyncEnd', resolve));
  });
  await once(bench.app.server, 'request');
  socket.resetAndDestroy();
  await handled;
  t.notMatch(bench.logged(), 'request failed');
});

sqliteStore('a machine needs a network on which it can boot', async (t, store, { clock }) => {
  const { operator } = await apiBench(t, store, clock);
  const region = (await operator.post('/regions', { name: 'west' })).body as { id: string };
  const rack = (await operator.post('/racks', { name: 'r1', region: region.id })).body as { id: string };
  const bmc = { address: '10.0.0.1', username: 'admin', password: 'hunter2hunter2' };
  const nics = [{ mac: '52:54:00:00:00:01', role: 'both' }];
  const answer = await operator.post('/machines', { name: 'm1', rack: rack.id, bmc, nics });
  t.match(answer.text, 'provisioning subnet');
  t.equal(answer.status, 400, 'a missing network is not a defect of ours');
  t.same(complaints(answer), ['/rack']);
});

/** Field → message. */
function fieldsOf({ body }: Answer): Record<string, string> {
  const { error } = body as { error: { fields?: { field: string; message: string }[] } };
  return Object.fromEntries((error.fields ?? []).map(({ field, message }) => [field, message]));
}

async function shout({ app }: ApiBench, request: string): Promise<string> {
  const { port } = app.server.address() as AddressInfo;
  const socket = connect(port, '127.0.0.1');
  socket.write(request);
  return text(socket);
}
