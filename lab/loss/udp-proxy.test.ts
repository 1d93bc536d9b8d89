import type { RemoteInfo } from 'node:dgram';
import { test } from 'tap';
import type { Test } from 'tap';

import { openDeviceSocket } from '../../appliance/kernel/native-socket.ts';
import { until } from '../process/until.ts';
import { startUdpProxy } from './udp-proxy.ts';
import type { UdpProxyOptions } from './udp-proxy.ts';

test('a path without mishaps carries everything, changed where it is told to', async (t) => {
  const { client, arrived } = path(t, { rewrite: (answer) => [Buffer.from(`<${answer.toString()}>`), answer] });
  for (const text of ['one', 'two']) client.send(text);
  await until('both answers, twice', 2_000, () => client.texts.length === 4);
  t.same(arrived, ['one', 'two']);
  t.same(client.texts, ['<one>', 'one', '<two>', 'two']);
});

test('the same seed loses, doubles and delays the same datagrams, another one others', async (t) => {
  const rates = { lost: 0.2, doubled: 0.2, late: 0.2, lateMs: 5 };
  const heard = async (seed: number) => {
    const { client, arrived, proxy } = path(t, { rates, seed }, { answering: false });
    for (let packet = 0; packet < 200; packet++) client.send(String(packet));
    await until('what was not lost', 5_000, () => {
      const { carried, lost, doubled } = proxy.counts();
      return carried + lost === 200 && arrived.length === carried + doubled;
    });
    return { times: arrived.toSorted(), ordered: arrived.join() === arrived.toSorted(byNumber).join() };
  };
  const [first, again, other] = [await heard(7), await heard(7), await heard(8)];
  t.same(again.times, first.times);
  t.notSame(other.times, first.times);
  t.notOk(first.ordered, 'what was late came behind others');
  t.ok(new Set(first.times).size < 190 && first.times.length > new Set(first.times).size, 'some lost, some doubled');
});

test('a port that the server answers from gets a port of its own, and both directions through it', async (t) => {
  const { client, other } = path(t, {});
  client.send('by another port');
  await until('the answer', 2_000, () => client.texts.includes('from another port'));
  t.not(client.from.at(-1), client.proxyPort);
  client.send('to you', client.from.at(-1));
  await until('it to arrive there', 2_000, () => other.includes('to you'));
});

/** A client, a server that echoes, and the proxy between them. */
function path(t: Test, options: Omit<UdpProxyOptions, 'server'>, { answering = true } = {}) {
  const [server, second, socket] = [open(t), open(t), open(t)];
  const arrived: string[] = [];
  const other: string[] = [];
  server.on('message', (packet, from) => {
    arrived.push(packet.toString());
    if (packet.toString() === 'by another port') second.send('from another port', from.port, from.address);
    else if (answering) server.send(packet, from.port, from.address);
  });
  second.on('message', (packet) => other.push(packet.toString()));
  const proxy = startUdpProxy({ server: server.address(), ...options });
  t.teardown(() => proxy.stop());
  const client = {
    texts: [] as string[],
    from: [] as number[],
    proxyPort: proxy.port,
    send: (text: string, port = proxy.port) => socket.send(text, port, '127.0.0.1'),
  };
  socket.on('message', (packet: Buffer, { port }: RemoteInfo) => {
    client.texts.push(packet.toString());
    client.from.push(port);
  });
  return { client, arrived, other, proxy };
}

function open(t: Test) {
  const socket = openDeviceSocket({ address: '127.0.0.1', port: 0 });
  t.teardown(() => socket.close());
  return socket;
}

function byNumber(one: string, other: string): number {
  return Number(one) - Number(other);
}
