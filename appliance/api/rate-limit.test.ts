import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { test } from 'tap';
import { WebSocket } from 'ws';

import { SECOND } from '../kernel/clock.ts';
import { ManualClock } from '../kernel/manual-clock.ts';
import type { Store } from '../store/store.ts';
import { sqliteStore } from '../store/test-stores.ts';
import type { ApiBench } from './api.fixture.ts';
import { apiBench, codeOf } from './api.fixture.ts';
import { RateLimit } from './rate-limit.ts';

const rate = { perSecond: 100, burst: 200 };

test('200 at once are let in, and then 100 a second, for ever', async (t) => {
  const clock = new ManualClock();
  const limit = new RateLimit(rate, clock);
  for (let number = 1; number <= 200; number += 1) t.equal(limit.take('a'), 0, `${number}`);
  t.equal(limit.take('a'), 10);
  t.equal(limit.take('a'), 10, 'who is refused is not counted');
  let admitted = 0;
  for (let millisecond = 0; millisecond < 10 * SECOND; millisecond += 5) {
    await clock.advance(5);
    if (limit.take('a') === 0) admitted += 1;
  }
  t.equal(admitted, 1000, 'whoever asks 200 times a second gets half of it');
  await clock.advance(2 * SECOND);
  t.equal(
    count(200, () => limit.take('a')),
    200,
    'after two seconds of rest it is a burst again',
  );
  t.ok(limit.take('a') > 0);
});

test('a clock that is set back locks nobody out for longer than a burst takes', (t) => {
  const now = { value: 1e12 };
  const limit = new RateLimit(rate, { now: () => now.value, sleepUntil: () => Promise.resolve() });
  count(201, () => limit.take('a'));
  now.value -= 3_600 * SECOND;
  t.equal(limit.take('a'), 10);
  now.value += 2 * SECOND;
  t.equal(
    count(200, () => limit.take('a')),
    200,
  );
  t.end();
});

test('of too many callers the one that asked longest ago is forgotten first', (t) => {
  const limit = new RateLimit({ perSecond: 1, burst: 1 }, new ManualClock(), 2);
  for (const caller of ['a', 'b', 'a']) limit.take(caller);
  t.ok(limit.wait('a') > 0 && limit.wait('b') > 0);
  limit.take('c');
  t.ok(limit.wait('b') > 0 && limit.wait('c') > 0, 'these two are known');
  t.equal(limit.wait('a'), 0);
  t.end();
});

sqliteStore(
  'a key that asks too often is told for how long to wait, and no other key is',
  async (t, store, { clock }) => {
    const bench = await apiBench(t, store, clock, { rateLimit: { perSecond: 0.5, burst: 3 } });
    const { member } = await bench.tenant('acme');
    for (let number = 1; number <= 3; number += 1) t.equal((await member.get('/servers')).status, 200);
    const refused = await member.get('/servers');
    t.equal(refused.status, 429);
    t.equal(refused.headers['retry-after'], '2');
    t.match(refused.body, { error: { code: 'rate.limited', message: /in 2 s/, hint: /Retry-After/ } });
    t.equal((await member.post('/servers', {})).status, 429, 'whatever it asks');
    t.equal((await bench.operator.get('/servers')).status, 200, 'others have a budget of their own');
    await clock.advance(1500);
    t.equal((await member.get('/servers')).headers['retry-after'], '1', 'never less than a second');
    await clock.advance(500);
    t.equal((await member.get('/servers')).status, 200);
    t.equal((await member.get('/servers')).status, 429);
  },
);

sqliteStore('an address that shows wrong keys is refused before they are looked up', async (t, store, { clock }) => {
  const lookUps = { count: 0 };
  const bench = await apiBench(t, counting(store, lookUps), clock, { rateLimit: { perSecond: 1, burst: 3 } });
  const ask = asker(bench);
  const wrong = { authorization: 'Bearer rackstart_wrong' };
  for (const headers of [wrong, {}, wrong]) t.equal((await ask({ headers })).statusCode, 401);
  const before = lookUps.count;
  const refused = await ask({ headers: wrong });
  t.equal(refused.statusCode, 429);
  t.equal(refused.headers['retry-after'], '1');
  t.equal((await ask({ headers: bench.operator.headers })).statusCode, 429, 'nobody guesses on from there');
  t.equal(lookUps.count, before);
  t.equal(
    (await ask({ headers: wrong, remoteAddress: '192.0.2.2' })).statusCode,
    401,
    'another address may be wrong too',
  );
  await clock.advance(SECOND);
  t.equal((await ask({ headers: bench.operator.headers })).statusCode, 200);
});

sqliteStore('valid keys are not counted against the address that they share', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock, { rateLimit: { perSecond: 1, burst: 2 } });
  const { member } = await bench.tenant('acme');
  const { member: other } = await bench.tenant('rival');
  for (const caller of [member, other, member, other]) t.equal((await caller.get('/servers')).status, 200);
  t.equal((await asker(bench)({})).statusCode, 401, 'the address has its whole budget');
});

sqliteStore('an IPv6 host is one caller, whichever addresses of its /64 it takes', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock, { rateLimit: { perSecond: 1, burst: 1 } });
  const ask = asker(bench);
  t.equal((await ask({ remoteAddress: '2001:db8::1' })).statusCode, 401);
  t.equal((await ask({ remoteAddress: '2001:db8::ffff:2' })).statusCode, 429);
  t.equal((await ask({ remoteAddress: '2001:db8:0:1::1' })).statusCode, 401);
  t.equal((await ask({ remoteAddress: '::ffff:192.0.2.1' })).statusCode, 401);
  t.equal((await ask({ remoteAddress: '192.0.2.1' })).statusCode, 429, 'mapped or not, an IPv4 address is one');
});

sqliteStore('whom a proxy asks for is believed of the proxies that are named alone', async (t, store, { clock }) => {
  const settings = { rateLimit: { perSecond: 1, burst: 1 }, trustedProxies: ['10.0.0.0/24'] };
  const ask = asker(await apiBench(t, store, clock, settings));
  const from = (remoteAddress: string, client: string) =>
    ask({ remoteAddress, headers: { 'x-forwarded-for': client } }).then(({ statusCode }) => statusCode);
  t.equal(await from('10.0.0.1', '192.0.2.1'), 401);
  t.equal(await from('10.0.0.1', '192.0.2.2'), 401);
  t.equal(await from('10.0.0.2', '192.0.2.1'), 429);
  t.equal(await from('10.0.0.2', '192.0.2.9, 192.0.2.1'), 429, 'what the client wrote itself counts for nothing');
  t.equal(await from('10.0.1.1', '192.0.2.3'), 401);
  t.equal(await from('10.0.1.1', '192.0.2.4'), 429, 'a stranger is itself, whatever it says');
  for (const nonsense of ['', 'unknown', 'x'.repeat(5_000)]) t.match(`${await from('10.0.0.1', nonsense)}`, /401|429/);
});

sqliteStore('what is served without a key is counted by address', async (t, store, { clock }) => {
  const { app } = await apiBench(t, store, clock, { rateLimit: { perSecond: 1, burst: 2 } });
  const statuses = async (url: string, remoteAddress: string) => {
    const answers = [];
    for (let number = 0; number < 3; number += 1) answers.push((await app.inject({ url, remoteAddress })).statusCode);
    return answers;
  };
  t.same(await statuses('/docs/json', '192.0.2.1'), [200, 200, 429]);
  t.same(await statuses('/nothing', '192.0.2.2'), [404, 404, 429]);
  t.same(await statuses('/api/v1/nothing', '192.0.2.3'), [404, 404, 429]);
});

sqliteStore('opening a WebSocket is a request; what is said over it is none', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock, { rateLimit: { perSecond: 1, burst: 2 } });
  await bench.app.listen({ host: '127.0.0.1', port: 0 });
  const { port } = bench.app.server.address() as AddressInfo;
  const open = async () => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/api/v1/events/live`, { headers: bench.operator.headers });
    t.teardown(() => socket.terminate());
    socket.on('error', () => undefined);
    const refused = once(socket, 'unexpected-response').then(([, response]) => response as { statusCode: number });
    return { socket, answer: await Promise.race([once(socket, 'open').then(() => 'open'), refused]) };
  };
  const { socket, answer } = await open();
  t.equal(answer, 'open');
  for (let number = 0; number < 500; number += 1) socket.send('hello');
  socket.ping();
  await once(socket, 'pong');
  t.equal(socket.readyState, socket.OPEN, '500 messages are heard, and no reason to refuse anything');
  t.equal((await open()).answer, 'open');
  t.match((await open()).answer, { statusCode: 429, headers: { 'retry-after': '1' } });
  t.equal(codeOf(await bench.operator.get('/servers')), 'rate.limited');
});

function count(times: number, take: () => number): number {
  return Array.from({ length: times }, take).filter((wait) => wait === 0).length;
}

function asker({ app }: ApiBench) {
  return (of: { headers?: Record<string, string>; remoteAddress?: string }) =>
    app.inject({ url: '/api/v1/servers', remoteAddress: '192.0.2.1', ...of });
}

/** The same store, which counts how often a key is looked up. */
function counting(store: Store, lookUps: { count: number }): Store {
  const read = new Proxy(store.read, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== 'function') return value;
      return (...args: unknown[]): unknown => {
        if (name === 'selectFrom' && args[0] === 'api_keys') lookUps.count += 1;
        return (value as (...given: unknown[]) => unknown).apply(target, args);
      };
    },
  });
  return { ...store, read, transaction: (work) => store.transaction(work) };
}
