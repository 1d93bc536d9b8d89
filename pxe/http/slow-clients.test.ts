import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';

import { test } from 'tap';
import type { Test } from 'tap';

import { SECOND } from '../../appliance/kernel/clock.ts';
import { ask, form } from './ask.fixture.ts';
import type { Rig } from './server.fixture.ts';
import { CREDENTIAL, startRig } from './server.fixture.ts';

test('a TLS handshake that stops half-way, and one that never begins, are ended; agents are heard', async (t) => {
  const rig = await startRig(t, { request: 300 });
  // The first bytes of a ClientHello of 512 (RFC 8446 §5.1, §4.1.2).
  const half = open(t, rig.ports.https, Buffer.from('1603010200010001fc0303', 'hex'));
  const silent = open(t, rig.ports.https);
  const ended = Promise.all([half, silent].map((socket) => once(socket, 'close')));
  t.equal(await heartbeat(rig), 204);
  await ended;
  t.equal(await heartbeat(rig), 204);
});

test('after the handshake a client that asks nothing, or half a question, is ended too', async (t) => {
  const rig = await startRig(t, { request: 300 });
  const { ca } = rig;
  const quiet = [
    '',
    'POST /agent/v1/heartbeat HTTP/1.1\r\nHost: x\r\n',
    'POST /agent/v1/heartbeat HTTP/1.1\r\nContent',
  ];
  const sockets = quiet.map((begin) => {
    const socket = connectTls({ host: '127.0.0.1', port: rig.ports.https, ca }, () => socket.write(begin));
    t.teardown(() => socket.destroy());
    return socket.on('error', () => undefined).resume();
  });
  const ended = Promise.all(sockets.map((socket) => once(socket, 'close')));
  t.equal(await heartbeat(rig), 204);
  await ended;
});

test('a thousand idle connections of one address leave room for others', async (t) => {
  const rig = await startRig(t, { request: 30 * SECOND });
  for (const port of [rig.ports.http, rig.ports.https]) {
    const idle = Array.from({ length: 1000 }, () => open(t, port, undefined, '127.0.0.2'));
    await new Promise<void>((resolve) => {
      let closed = 0;
      for (const socket of idle) socket.once('close', () => ++closed === 1000 - 64 && resolve());
    });
    t.equal(idle.filter(({ closed }) => !closed).length, 64, 'so many it may hold, until they are asked to speak');
    t.equal((await ask(`${rig.http}/ramdisk/vmlinuz`)).text, 'kernel');
    t.equal(await heartbeat(rig), 204);
  }
});

test('a reader that stalls in the middle of a file is cut off; another gets it whole meanwhile', async (t) => {
  const rig = await startRig(t, { idle: SECOND });
  const { content } = rig.initrd;
  // More than any socket buffers, asked for at once.
  const stalled = open(t, rig.ports.http, 'GET /ramdisk/initrd HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(10)).pause();
  t.ok((await ask(`${rig.http}/ramdisk/initrd`)).bytes.equals(content));
  t.match(await rig.seen('initrd', ({ cut }) => cut === true), { entry: { detail: { cut: true } } });
  let bytes = 0;
  stalled.on('data', (chunk: Buffer) => (bytes += chunk.length)).resume();
  await once(stalled, 'close');
  t.ok(bytes < 10 * content.length, `${bytes} bytes had left`);
});

test('a machine may ask as often as it likes: what limits callers of the API is not here', async (t) => {
  const { http } = await startRig(t);
  for (let number = 0; number < 500; number += 1) {
    const { status } = await ask(`${http}/boot/52-54-00-77-00-01`);
    if (status !== 200) t.fail(`the answer to request ${number} was ${status}`);
  }
  t.pass('500 times');
});

function open(t: Test, port: number, begin?: Buffer | string, localAddress = '127.0.0.1'): Socket {
  const socket = connect({ port, host: '127.0.0.1', localAddress })
    .on('error', () => undefined)
    .resume();
  t.teardown(() => socket.destroy());
  if (begin !== undefined) socket.write(begin);
  return socket;
}

async function heartbeat({ https, ca }: Rig): Promise<number> {
  const load = { protocol: '1', server: 's', uptime: '1', load1: '0' };
  const sizes = { memory_total_kib: '1', memory_available_kib: '1', disk_total_kib: '1', disk_used_kib: '1' };
  const question = form({ ...load, ...sizes });
  const headers = { ...question.headers, authorization: `Bearer ${CREDENTIAL}` };
  return (await ask(`${https}/agent/v1/heartbeat`, { ...question, headers, ca })).status;
}
