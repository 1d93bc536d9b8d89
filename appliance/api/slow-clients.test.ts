import { once } from 'node:events';
import { get } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import type { Test } from 'tap';

import { SECOND } from '../kernel/clock.ts';
import type { ManualClock } from '../kernel/manual-clock.ts';
import type { Store } from '../store/store.ts';
import { sqliteStore } from '../store/test-stores.ts';
import type { ApiBench } from './api.fixture.ts';
import { apiBench } from './api.fixture.ts';
import { apiLimits } from './slow-clients.ts';

sqliteStore('headers that do not arrive end their connection, and others are served', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock, { limits: { headers: 200 } });
  const port = await listening(bench);
  const half = open(t, port, 'GET /api/v1/servers HTTP/1.1\r\nHost: x\r\nX-Slow: ');
  const silent = open(t, port);
  const answers = Promise.all([text(half), text(silent)]);
  t.equal(await status(port, bench), 200);
  const [answer] = await answers;
  t.match(answer, /^HTTP\/1\.1 408 [^]*"code":"request\.invalid"/);
  t.equal(await status(port, bench), 200);
});

sqliteStore('a body that does not arrive ends its connection with a reason', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const port = await listening(bench);
  const slow = open(t, port, posts('/regions', bench));
  const answer = text(slow);
  await waiting(clock);
  slow.write('{"name"');
  t.equal(await status(port, bench), 200, 'meanwhile others are served');
  await clock.advance(apiLimits.body);
  t.match(await answer, /^HTTP\/1\.1 408 [^]*connection: close[^]*"code":"request\.invalid"/i);
  t.same((await bench.operator.get('/regions')).body, { regions: [] });
});

sqliteStore('whoever was refused may not go on sending for ever', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const port = await listening(bench);
  for (const path of ['/regions', '/images?name=x']) {
    const refused = open(t, port, posts(path));
    const [answer] = (await once(refused, 'data')) as [Buffer];
    t.match(answer.toString(), /^HTTP\/1\.1 401 /, path);
    const closed = once(refused, 'close');
    await waiting(clock);
    await clock.advance(apiLimits.body);
    await closed;
  }
});

sqliteStore('an image may be as long on its way as it takes, once its sender is known', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const port = await listening(bench);
  const query = `?name=x&version=1&sha256=${'0'.repeat(64)}&rootPartition=1&kernelArgs=`;
  const requested = once(bench.app.server, 'request');
  const upload = open(t, port, posts(`/images${query}`, bench, 'application/zstd\r\nConnection: close'));
  const answer = text(upload);
  await requested;
  for (let turns = 0; turns < 100; turns += 1) await turn();
  await clock.advance(100 * apiLimits.body);
  upload.write('x'.repeat(100));
  t.match(await answer, /"code":"image\.digest"/, 'it was read to its end');
});

sqliteStore('a body that has arrived is waited for no more', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const port = await listening(bench);
  const url = `http://127.0.0.1:${port}/api/v1/regions`;
  const headers = { ...bench.operator.headers, 'content-type': 'application/json' };
  t.equal((await fetch(url, { method: 'POST', headers, body: '{"name":"west"}' })).status, 201);
  t.equal((await fetch(url, { method: 'POST', body: '{"name":"west"}' })).status, 401);
  while (clock.nextWake() !== undefined) await turn();
  t.pass('nothing sleeps');
});

sqliteStore('who waits for a disk that hangs is told so in the end', async (t, store, { clock }) => {
  const asked = Promise.withResolvers<undefined>();
  const disk = Promise.withResolvers<undefined>();
  let hangs = false;
  const hung: Store = {
    ...store,
    async transaction(work) {
      if (hangs) {
        asked.resolve(undefined);
        await disk.promise;
      }
      return store.transaction(work);
    },
  };
  const bench = await apiBench(t, hung, clock);
  const port = await listening(bench);
  hangs = true;
  const headers = { ...bench.operator.headers, 'content-type': 'application/json' };
  const url = `http://127.0.0.1:${port}/api/v1/regions`;
  const answer = fetch(url, { method: 'POST', headers, body: '{"name":"west"}' });
  await asked.promise;
  await clock.advance(apiLimits.answer);
  const { status: code, headers: told } = await answer;
  t.same([code, told.get('retry-after')], [503, '5']);
  t.match(await (await answer).json(), { error: { code: 'store.unavailable', details: { commit: 'unknown' } } });
  t.equal(await status(port, bench), 200, 'reads are answered');

  hangs = false;
  disk.resolve(undefined);
  const regions = async () => ((await bench.operator.get('/regions')).body as { regions: object[] }).regions;
  while ((await regions()).length === 0) await turn();
  t.match(await regions(), [{ name: 'west' }], 'it was done all the same');
  while (clock.nextWake() !== undefined) await turn();
});

sqliteStore('a reader that takes nothing of its answer is cut off and holds nobody up', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock, { limits: { idle: SECOND } });
  const port = await listening(bench);
  const data = { machineId: 'm', from: null, to: 'available', reason: '.'.repeat(500_000) };
  await store.transaction(async (tx) => {
    for (let number = 0; number < 40; number += 1)
      await bench.events.append(tx, 'machine.state-changed', { key: 'm', actor: 'test', data });
  });
  await bench.sequence();
  const accepted = once(bench.app.server, 'connection') as Promise<[Socket]>;
  const stuck = open(t, port, `GET /api/v1/events?limit=40 HTTP/1.1\r\nHost: x\r\n${bearer(bench)}\r\n`);
  stuck.pause();
  const [served] = await accepted;
  const closed = once(served, 'close');
  t.equal(await status(port, bench), 200);
  await closed;
  let bytes = 0;
  stuck.on('data', (chunk: Buffer) => (bytes += chunk.length)).resume();
  await once(stuck, 'close');
  t.ok(bytes > 0 && bytes < 20_000_000, `in the middle: ${bytes} bytes`);
});

sqliteStore(
  'an address may hold so many connections, and a proxy as many as there are',
  async (t, store, { clock }) => {
    const limits = { connectionsPerAddress: 20 };
    const bench = await apiBench(t, store, clock, { limits, trustedProxies: ['127.0.0.9'] });
    const port = await listening(bench);
    const idle = Array.from({ length: 1000 }, () => open(t, port, '', '127.0.0.2'));
    await Promise.all(idle.slice(20).map(async (socket) => socket.closed || once(socket, 'close')));
    t.equal(await status(port, bench), 200, 'another address is served beside them');
    t.equal(idle.filter(({ closed }) => !closed).length, 20);
    const proxied = Array.from({ length: 30 }, () => open(t, port, '', '127.0.0.9'));
    await Promise.all(proxied.map((socket) => once(socket, 'connect')));
    t.equal(await status(port, bench, '127.0.0.9'), 200);
    t.equal(proxied.filter(({ closed }) => !closed).length, 30);
  },
);

async function listening({ app }: ApiBench): Promise<number> {
  await app.listen({ host: '127.0.0.1', port: 0 });
  return (app.server.address() as AddressInfo).port;
}

function open(t: Test, port: number, begin = '', localAddress = '127.0.0.1'): Socket {
  const socket = connect({ port, host: '127.0.0.1', localAddress }).on('error', () => undefined);
  t.teardown(() => socket.destroy());
  if (begin !== '') socket.write(begin);
  return socket;
}

function bearer({ operator }: ApiBench): string {
  return `Authorization: ${operator.headers.authorization}\r\n`;
}

/** The head of a POST whose body of 100 bytes is to come. */
function posts(path: string, bench?: ApiBench, type = 'application/json'): string {
  const head = `POST /api/v1${path} HTTP/1.1\r\nHost: x\r\nContent-Type: ${type}\r\nContent-Length: 100\r\n`;
  return `${head}${bench === undefined ? '' : bearer(bench)}\r\n`;
}

/** What the servers' list is answered with, on a connection of its own. */
async function status(port: number, { operator }: ApiBench, localAddress = '127.0.0.1'): Promise<number | undefined> {
  const options = { port, host: '127.0.0.1', localAddress, path: '/api/v1/servers', agent: false };
  const asked = once(get({ ...options, headers: operator.headers }), 'response') as Promise<[IncomingMessage]>;
  const [response] = await asked;
  return response.resume().statusCode;
}

/** Until somebody waits on this clock. */
async function waiting(clock: ManualClock): Promise<void> {
  while (clock.nextWake() === undefined) await turn();
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
