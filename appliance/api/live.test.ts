import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import type { Test } from 'tap';
import type { ClientOptions } from 'ws';
import { WebSocket } from 'ws';

import { MINUTE } from '../kernel/clock.ts';
import type { Store } from '../store/store.ts';
import { eachStore, sqliteStore } from '../store/test-stores.ts';
import type { ApiBench } from './api.fixture.ts';
import { Caller, apiBench } from './api.fixture.ts';

interface Event {
  position: number;
  type: string;
  key: string;
  data: { reason?: string };
}

eachStore('live events come in order, to whom they concern, and go on from a position', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const [acme, rival] = [await bench.tenant('acme'), await bench.tenant('rival')];
  await append(bench, store, 'before', acme.id);

  const operator = await listen(t, bench, bench.operator);
  const member = await listen(t, bench, acme.member, '?after=0');
  await append(bench, store, 'one', acme.id);
  await append(bench, store, 'two', rival.id);
  await append(bench, store, 'three');
  await append(bench, store, 'four', acme.id);
  t.same(keys(await operator.events(4)), ['one', 'two', 'three', 'four'], 'from now on, where nothing else is asked');
  const seen = await member.events(3);
  t.same(keys(seen), ['before', 'one', 'four']);

  member.socket.close();
  await append(bench, store, 'five', acme.id);
  const again = await listen(t, bench, acme.member, `?after=${seen[1]!.position}`);
  t.same(keys(await again.events(2)), ['four', 'five']);
  const pages = (await acme.member.get('/events?limit=2')).body as { events: Event[]; position: number };
  t.same(keys(pages.events), ['before', 'one']);
  const rest = (await acme.member.get(`/events?after=${pages.position}`)).body as { events: Event[] };
  t.same(keys(rest.events), ['four', 'five']);
});

sqliteStore('live events need a key', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  await t.rejects(listen(t, bench, new Caller(bench.app, 'nobody')), { message: /401/ });
});

sqliteStore('a client that does not read is cut off and holds nobody up', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const slow = await listen(t, bench, bench.operator);
  const quick = await listen(t, bench, bench.operator);
  slow.socket.pause();
  const EVENTS = 40;
  for (let number = 1; number <= EVENTS; number += 1) {
    await append(bench, store, `${number}`, undefined, 500_000);
    await quick.events(number);
  }
  // The kernel holds what it could take; the rest waits, and not for ever.
  await clock.advance(MINUTE);
  const closed = once(slow.socket, 'close');
  slow.socket.resume();
  const [code] = (await closed) as [number];
  t.equal(code, 1013);
  t.ok(slow.received.length < EVENTS, `${slow.received.length} events came before that`);
  const back = await listen(t, bench, bench.operator, `?after=${slow.received.at(-1)?.position ?? 0}`);
  const missed = await back.events(EVENTS - slow.received.length);
  t.same(keys([...slow.received, ...missed]), keys(quick.received), 'who comes back and reads gets all it missed');
});

sqliteStore('what a client sends is not listened to, and too much of it ends the connection', async (t, store, c) => {
  const bench = await apiBench(t, store, c.clock);
  const [chatty, quiet] = [await listen(t, bench, bench.operator), await listen(t, bench, bench.operator)];
  chatty.socket.send('hello');
  await append(bench, store, 'one');
  t.same(keys(await chatty.events(1)), ['one']);
  const closed = once(chatty.socket, 'close');
  chatty.socket.send('x'.repeat(2_000));
  await closed;
  await append(bench, store, 'two');
  t.same(keys(await quiet.events(2)), ['one', 'two']);
});

eachStore(
  'who names no position hears of all that comes once it is connected, and of nothing before',
  async (t, store, c) => {
    const bench = await apiBench(t, store, c.clock);
    await append(bench, store, 'before');
    const listener = await listen(t, bench, bench.operator);
    await append(bench, store, 'after');
    t.same(keys(await listener.events(1)), ['after']);
  },
);

eachStore('a live connection ends when its key is revoked, and no other does', async (t, store, { clock }) => {
  const bench = await apiBench(t, store, clock);
  const acme = await bench.tenant('acme');
  const operator = await listen(t, bench, bench.operator);
  const member = await listen(t, bench, acme.member);
  await append(bench, store, 'one', acme.id);
  t.same(keys(await member.events(1)), ['one']);

  const closed = once(member.socket, 'close');
  t.equal((await bench.operator.delete(`/api-keys/${acme.keyId}`)).status, 204);
  await append(bench, store, 'two', acme.id);
  const [code] = (await closed) as [number];
  t.equal(code, 1008);
  t.same(keys(member.received), ['one'], 'it is told of nothing that came after');
  await t.rejects(listen(t, bench, acme.member), { message: /401/ });
  t.match(await operator.events(3), [{ key: 'one' }, { type: 'api-key.revoked', key: acme.keyId }, { key: 'two' }]);
  await bench.operator.delete(`/api-keys/${acme.keyId}`);
  await append(bench, store, 'three');
  t.same(keys((await operator.events(4)).slice(3)), ['three'], 'revoked twice is told of once');
});

sqliteStore(
  'a peer that is gone without a word is given up, one that is silent is not',
  async (t, store, { clock }) => {
    const bench = await apiBench(t, store, clock);
    const [gone, quiet] = [
      await listen(t, bench, bench.operator, '', { autoPong: false }),
      await listen(t, bench, bench.operator),
    ];
    const closed = once(gone.socket, 'close');
    for (let minutes = 0; minutes < 3; minutes += 1) {
      // After the first answer it has heard the server's ping, after the second the server has heard its answer to that.
      for (let pings = 0; pings < 2; pings += 1) {
        quiet.socket.ping();
        await once(quiet.socket, 'pong');
      }
      await clock.advance(MINUTE);
    }
    await closed;
    await append(bench, store, 'one');
    t.same(keys(await quiet.events(1)), ['one']);
  },
);

function keys(events: readonly Event[]): string[] {
  return events.map(({ key }) => key);
}

async function append({ events, sequence }: ApiBench, store: Store, key: string, tenantId?: string, size = 0) {
  const data = { machineId: key, from: null, to: 'available', reason: '.'.repeat(size) };
  await store.transaction((tx) => events.append(tx, 'machine.state-changed', { key, tenantId, actor: 'test', data }));
  await sequence();
}

async function listen(t: Test, { app }: ApiBench, { headers }: Caller, query = '', options: ClientOptions = {}) {
  // Real sockets: those of injectWS don't end, nor do they push back.
  const { server } = app;
  if (!server.listening) await app.listen({ host: '127.0.0.1', port: 0 });
  const { port } = server.address() as AddressInfo;
  const socket = new WebSocket(`ws://127.0.0.1:${port}/api/v1/events/live${query}`, { headers, ...options });
  const listener = listenerOn(t, socket);
  await once(socket, 'open');
  return listener;
}

function listenerOn(t: Test, socket: WebSocket) {
  const received: Event[] = [];
  socket.on('message', (text: Buffer) => received.push(JSON.parse(text.toString()) as Event));
  t.teardown(() => {
    if (socket.readyState !== socket.CONNECTING) socket.terminate();
  });
  return {
    socket,
    received,
    async events(count: number): Promise<Event[]> {
      while (received.length < count) await once(socket, 'message');
      return received;
    },
  };
}
