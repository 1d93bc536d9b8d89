import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';

import { test } from 'tap';

import { ask, curl, form } from './ask.fixture.ts';
import { BEARER, CLAIM_TOKEN, CREDENTIAL, MAC, SCRIPT_TOKEN, startRig } from './server.fixture.ts';

const path = '/boot/52-54-00-77-00-01';

test('the right token buys a script that leads to the ramdisk and carries one claim token', async (t) => {
  const { http, ports, seen } = await startRig(t);
  const { status, headers, text: script } = await ask(`${http}${path}?token=${SCRIPT_TOKEN}`);
  t.equal(status, 200);
  t.match(headers['content-type'], 'text/plain');
  t.equal(headers['cache-control'], 'no-store');
  t.ok(script.startsWith('#!ipxe\n'));
  t.match(
    script,
    `kernel http://127.0.0.1:${ports.http}/ramdisk/vmlinuz initrd=initrd.img boot=rackstart ` +
      `rackstart.url=https://127.0.0.1:${ports.https} rackstart.token=${CLAIM_TOKEN} ` +
      'rackstart.mac=52-54-00-77-00-01 rackstart.ip=127.0.0.1/8 rackstart.gw=127.0.0.254 ',
  );
  t.match(await seen('script'), {
    owner: MAC,
    entry: { source: 'http', detail: { status: 200, bytes: script.length } },
  });
});

test('without a token a machine is sent to its own disk, known or not', async (t) => {
  const { http, seen } = await startRig(t);
  for (const mac of ['52-54-00-77-00-01', '52:54:00:aa:bb:cc']) {
    const { status, text: script } = await ask(`${http}/boot/${mac}`);
    t.equal(status, 200);
    t.match(script, /^#!ipxe\n[^]*sanboot/);
    t.notMatch(script, /token/);
  }
  t.match(await seen('local-disk'), { owner: MAC });
});

test('a wrong token is refused with no secret, in the one error shape, and is logged nowhere', async (t) => {
  const { http, seen, logged } = await startRig(t);
  const { status, text: body } = await ask(`${http}${path}?token=wrong-token`);
  t.equal(status, 403);
  t.strictSame(Object.keys((JSON.parse(body) as { error: object }).error), ['code', 'message', 'hint']);
  t.match(JSON.parse(body), { error: { code: 'boot.token-refused' } });
  const { entry } = await seen('script-refused');
  for (const text of [body, JSON.stringify(entry), ...logged]) t.notMatch(text, /wrong-token|claim-token|script-token/);
});

test('hostile paths and queries get an answer and nothing more', async (t) => {
  const { http } = await startRig(t);
  const cases: [string, number][] = [
    ['/boot/..%2f..%2fetc%2fpasswd', 400],
    ['/boot/ff-ff-ff-ff-ff-ff', 404],
    ['/boot/%00%00', 400],
    ['/boot/%zz', 400],
    [`${path}?token=a&token=b`, 400],
    [`${path}?token=${'x'.repeat(300)}`, 400],
    [`${path}?token=${'x'.repeat(9000)}`, 431],
    ['/ramdisk/../../etc/passwd', 404],
    ['/loader/../../etc/passwd', 404],
    [`/images/${'0'.repeat(64)}`, 404],
    ['/', 404],
  ];
  for (const [url, status] of cases) {
    const answer = await ask(http + url);
    t.equal(answer.status, status, url.slice(0, 60));
    t.type((JSON.parse(answer.text) as { error: { code: string } }).error.code, 'string');
  }
  t.equal((await ask(`${http}${path}`)).status, 200, 'and the next one is served');
});

test('the plain server knows nothing of claims, bearers or agents', async (t) => {
  const { http } = await startRig(t);
  const headers = { authorization: `Bearer ${BEARER}` };
  for (const url of ['/boot/v1/files', '/boot/v1/next?generation=7'])
    t.equal((await ask(http + url, { headers })).status, 404);
  for (const url of ['/boot/v1/claim', '/boot/v1/report', '/agent/v1/phone-home', '/agent/v1/heartbeat']) {
    t.equal((await ask(http + url, form({ token: CLAIM_TOKEN, credential: CREDENTIAL }))).status, 404, url);
  }
});

test('curl resumes a file, and gets exactly the bytes', async (t) => {
  const { http, initrd, caFile, seen } = await startRig(t);
  const url = `${http}/ramdisk/initrd`;
  const half = join(caFile, '..', 'half');
  writeFileSync(half, initrd.content.subarray(0, 1_234_567));
  await curl('--fail', '-C', '-', '-o', half, url);
  t.ok((await curl(`file://${half}`)).equals(initrd.content));
  t.ok((await curl(url)).equals(initrd.content));
  t.match(await seen('initrd'), {
    owner: { address: '127.0.0.1' },
    entry: { detail: { status: 206, bytes: 1_765_433, range: '1234567-2999999', from: '127.0.0.1' } },
  });
});

test('ranges follow RFC 9110', async (t) => {
  const { http, initrd } = await startRig(t);
  const { content, sha256 } = initrd;
  const size = content.length;
  const cases: [string, number, [number, number] | undefined][] = [
    ['bytes=0-0', 206, [0, 0]],
    ['bytes=10-19', 206, [10, 19]],
    ['bytes=-5', 206, [size - 5, size - 1]],
    [`bytes=-${size * 2}`, 206, [0, size - 1]],
    [`bytes=${size - 1}-`, 206, [size - 1, size - 1]],
    [`bytes=5-${size * 9}`, 206, [5, size - 1]],
    [`bytes=${size}-`, 416, undefined],
    ['bytes=-0', 416, undefined],
    ['bytes=5-2', 200, [0, size - 1]],
    ['bytes=0-1,5-6', 200, [0, size - 1]],
    ['lines=0-1', 200, [0, size - 1]],
    ['bytes=99999999999999999999-', 200, [0, size - 1]],
  ];
  for (const [range, status, span] of cases) {
    const answer = await ask(`${http}/ramdisk/initrd`, { headers: { range } });
    t.equal(answer.status, status, range);
    if (span !== undefined) t.ok(answer.bytes.equals(content.subarray(span[0], span[1] + 1)), range);
    if (status === 206) t.equal(answer.headers['content-range'], `bytes ${span?.join('-')}/${size}`);
    if (status === 416) t.equal(answer.headers['content-range'], `bytes */${size}`);
  }
  const stale = await ask(`${http}/ramdisk/initrd`, { headers: { range: 'bytes=0-9', 'if-range': '"other"' } });
  t.equal(stale.status, 200, 'another file: from the beginning');
  const same = await ask(`${http}/ramdisk/initrd`, { headers: { range: 'bytes=0-9', 'if-range': `"${sha256}"` } });
  t.equal(same.status, 206);
});

test('HEAD and If-None-Match send no body', async (t) => {
  const { http, initrd } = await startRig(t);
  const url = `${http}/ramdisk/initrd`;
  const head = await ask(url, { method: 'HEAD' });
  t.match(head.headers, {
    'content-length': String(initrd.content.length),
    etag: `"${initrd.sha256}"`,
    'accept-ranges': 'bytes',
  });
  t.equal(head.bytes.length, 0);
  t.equal((await ask(`${http}${path}?token=${SCRIPT_TOKEN}`, { method: 'HEAD' })).status, 404, 'files alone have one');
  t.equal((await ask(url, { headers: { 'if-none-match': `"${initrd.sha256}"` } })).status, 304);
  t.equal((await ask(`${http}/ramdisk/vmlinuz`, { headers: { range: 'bytes=1-2' } })).text, 'er');
});

test("firmware's HTTP boot gets a loader by name: its length first, its type, any range, and no other file", async (t) => {
  const { http, seen } = await startRig(t);
  const url = `${http}/loader/snponly.efi`;
  const head = await ask(url, { method: 'HEAD' });
  t.match(head.headers, { 'content-length': '8', 'content-type': 'application/efi', 'accept-ranges': 'bytes' });
  t.equal(head.bytes.length, 0);
  t.equal((await ask(url)).text, 'a loader');
  t.equal((await ask(url, { headers: { range: 'bytes=2-5' } })).text, 'load');
  t.match((await ask(`${http}/loader/undionly.kpxe`)).headers, { 'content-type': 'application/octet-stream' });
  for (const name of ['other.efi', '..%2fsnponly.efi', '__proto__', '']) {
    t.equal((await ask(`${http}/loader/${name}`)).status, 404, name);
  }
  t.match(await seen('loader'), { owner: { address: '127.0.0.1' }, entry: { source: 'http', detail: { bytes: 8 } } });
});

test('a client that is gone in the middle of a file is told of, and of nothing else', async (t) => {
  const { http, ports, seen } = await startRig(t);
  const socket = connect(ports.http, '127.0.0.1');
  // More than any socket buffers.
  socket.write('GET /ramdisk/initrd HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(10));
  await once(socket, 'data');
  socket.destroy();
  t.match(await seen('initrd', ({ cut }) => cut === true), { entry: { detail: { cut: true } } });
  t.equal((await ask(`${http}/ramdisk/vmlinuz`)).text, 'kernel');
});

test('a slow client loses its connection while others are served', async (t) => {
  const { http, ports } = await startRig(t, { request: 150 });
  const slow = connect(ports.http, '127.0.0.1');
  slow.write('GET /ramdisk/vmlinuz HTTP/1.1\r\nHost: x\r\nX-Slow: ');
  const answer = text(slow);
  t.equal((await ask(`${http}/ramdisk/vmlinuz`)).text, 'kernel');
  t.match(await answer, /^HTTP\/1\.1 408 [^]*"code":"request\.invalid"/);
  const silent = connect(ports.https, '127.0.0.1');
  silent.on('error', () => undefined);
  await once(silent, 'close');
  t.pass('a handshake that never comes is not waited for either');
});

test('an address that holds too many connections gets no more; garbage gets an error', async (t) => {
  const { http, ports } = await startRig(t, { connectionsPerAddress: 2 });
  const held = [connect(ports.http, '127.0.0.1'), connect(ports.http, '127.0.0.1')];
  await Promise.all(held.map((socket) => once(socket, 'connect')));
  const third = connect(ports.http, '127.0.0.1');
  third.on('error', () => undefined);
  await once(third, 'close');
  const [first, second] = held;
  first?.write('\x16\x03\x01garbage\r\n\r\n');
  t.match(first && (await text(first)), /^HTTP\/1\.1 400 Bad Request[^]*"code":"request\.invalid"/);
  second?.destroy();
  await Promise.all(held.filter((socket) => !socket.closed).map((socket) => once(socket, 'close')));
  t.equal((await ask(`${http}/ramdisk/vmlinuz`)).text, 'kernel');
});

test('stopping does not wait for clients', async (t) => {
  const { ports, stop } = await startRig(t);
  const idle = connect(ports.http, '127.0.0.1');
  idle.on('error', () => undefined);
  await once(idle, 'connect');
  const closed = once(idle, 'close');
  await stop();
  await closed;
  t.pass('the connection was ended');
});
