import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';

import { test } from 'tap';
import type { Test } from 'tap';

import type { FakeRamdisk } from './deploy.fixture.ts';
import { fakeRamdisk } from './deploy.fixture.ts';

const NEXT_BEARER = 'another-bearer.0123456789';
const BEARER = 'a-bearer-of-this-boot.0123456789';
const CERTIFICATE = selfSigned();

test('a line is found by its name and is never run', async (t) => {
  const ramdisk = fakeRamdisk(t);
  ramdisk.put('run/order', 'verb=wait\nkernel_args=a=b c=$(touch /tmp/x) `id`\nxverb=other\n');
  t.equal(await ramdisk.shell('field verb "$RUN/order"'), 'wait\n');
  t.equal(await ramdisk.shell('field kernel_args "$RUN/order"'), 'a=b c=$(touch /tmp/x) `id`\n');
});

test('a name that is missing, or there twice, is no value', async (t) => {
  const ramdisk = fakeRamdisk(t);
  ramdisk.put('run/order', 'chunk_url=http://a/\nchunk_url=http://b/\ndisk_serial=\n');
  await t.rejects(ramdisk.shell('field chunk_url "$RUN/order"'));
  await t.rejects(ramdisk.shell('field verb "$RUN/order"'));
  await t.rejects(ramdisk.shell('optional chunk_url ".*"'), /FAIL boot.protocol/);
  t.equal(await ramdisk.shell('optional disk_type "nvme|ssd|hdd"'), '', 'what is not named is nothing');
});

test('a value must match its whole pattern', async (t) => {
  const ramdisk = fakeRamdisk(t);
  ramdisk.put('run/order', 'a=12\nb=12\u0007\nc=-o\n');
  t.equal(await ramdisk.shell('order a "$NUMBER"'), '12\n');
  await t.rejects(ramdisk.shell('order b "$NUMBER"'), /FAIL boot.protocol the order has no acceptable b/);
  await t.rejects(ramdisk.shell('value=$(order c "$NUMBER"); echo "went on with $value"'), /FAIL/);
});

test('the claim sends what it must and keeps bearer and order apart', async (t) => {
  const { ramdisk, requests } = await prepare(t, () => [
    200,
    `protocol=1\nbearer=${BEARER}\nverb=inspect\ngeneration=7\n`,
  ]);
  t.equal(await ramdisk.stage('claim'), undefined);
  t.same(
    requests.map(({ form }) => Object.fromEntries(form)),
    [
      {
        protocol: '1',
        token: 'token-0123456789+/=',
        nonce: '0b6a2a0e6d7e4b479d103d8d6f4a8c11',
        mac: '52-54-00-77-00-01',
        uuid: '4c4c4544-0077',
        ramdisk: '0123456789abcdef',
      },
    ],
  );
  t.equal(ramdisk.read('run/bearer'), `Authorization: Bearer ${BEARER}\n`);
  t.equal(ramdisk.read('run/order'), 'protocol=1\nverb=inspect\ngeneration=7\n');
  t.notOk(existsSync(ramdisk.path('run/token')), 'the token is gone');
});

test('a claim that is refused, or answered with rubbish, leaves no bearer and no order', async (t) => {
  for (const [status, body, code] of [
    [403, '{"error":{"code":"boot.token-refused","message":"no","hint":""}}', 'boot.token-refused'],
    [409, '', 'boot.claim-conflict'],
    [426, '', 'boot.protocol'],
    [200, '<html>', 'boot.protocol'],
    [200, `protocol=2\nbearer=${BEARER}\ngeneration=1\n`, 'boot.protocol'],
    [200, `protocol=1\nbearer=x y\ngeneration=1\n`, 'boot.protocol'],
    [200, `protocol=1\nbearer=${BEARER}\ngeneration=\n`, 'boot.protocol'],
  ] as const) {
    const { ramdisk } = await prepare(t, () => [status, body]);
    t.equal((await ramdisk.stage('claim'))?.code, code, `${status} ${body}`);
    t.notOk(existsSync(ramdisk.path('run/bearer')));
    t.notOk(existsSync(ramdisk.path('run/order')));
  }
});

test('an appliance that does not show our certificate is told nothing', async (t) => {
  const { ramdisk, requests } = await prepare(t, () => [204, '']);
  claimed(ramdisk);
  ramdisk.put('etc/ca.pem', selfSigned().cert);
  await ramdisk.shell('progress image 1; call /boot/v1/next');
  t.equal(requests.length, 0);
  t.match(ramdisk.read('run/log'), /certificate/);
});

test('a boot script with a bad parameter is not obeyed', async (t) => {
  const { ramdisk, requests } = await prepare(t, () => [200, '']);
  for (const wrong of ['rackstart.url=https://a/;reboot', 'rackstart.token=short', 'rackstart.mac=any']) {
    const [name = ''] = wrong.split('=');
    ramdisk.put('proc/cmdline', ramdisk.read('proc/cmdline').replace(new RegExp(`${name}=\\S*`), wrong));
    t.equal((await ramdisk.stage('claim'))?.code, 'boot.stage-failed', wrong);
  }
  t.equal(requests.length, 0);
});

test('reports wait for the claim, then arrive in order with what they say', async (t) => {
  const { ramdisk, requests } = await prepare(t, () => [204, '']);
  ramdisk.put('run/facts', 'reason=100% "quoted" \\n & = + @file äöü\n');
  await ramdisk.shell('report network started; tell; report network "done"; tell');
  t.equal(requests.length, 0);
  claimed(ramdisk);
  await ramdisk.shell('tell; tell');
  const reason = '100% "quoted" \\n & = + @file äöü';
  t.same(
    requests.map(({ form }) => Object.fromEntries(form)),
    [
      { generation: '7', stage: 'network', status: 'started', uptime: '12.34', reason },
      { generation: '7', stage: 'network', status: 'done', uptime: '12.34', reason },
    ],
  );
  t.ok(requests.every(({ authorization }) => authorization === `Bearer ${BEARER}`));
});

test('an answer that this boot is over cuts it off', async (t) => {
  for (const [status, over] of [
    [409, true],
    [410, true],
    [403, true],
    [400, false],
    [500, false],
  ] as const) {
    const { ramdisk } = await prepare(t, () => [status, '']);
    claimed(ramdisk);
    await ramdisk.shell('progress image 1024');
    t.equal(existsSync(ramdisk.path('run/cut-off')), over, String(status));
  }
});

test('an order of a generation that was obeyed is not obeyed again', async (t) => {
  const answers = [7, 6, 8].map((generation) => `bearer=${NEXT_BEARER}\nverb=install\ngeneration=${generation}\n`);
  const { ramdisk, requests } = await prepare(t, () => [200, answers.shift() ?? '']);
  claimed(ramdisk);
  await ramdisk.shell('sleep() { :; }; next_order');
  t.equal(ramdisk.read('run/order'), 'verb=install\ngeneration=8\n');
  t.equal(ramdisk.read('run/bearer'), `Authorization: Bearer ${NEXT_BEARER}\n`, 'from here on it shows another bearer');
  t.same(
    requests.map(({ path }) => path),
    Array(3).fill('/boot/v1/next?generation=7'),
  );
});

test('an order that comes without its bearer, or is cut short, is asked for again with the old one', async (t) => {
  const order = `bearer=${NEXT_BEARER}\nverb=install\ngeneration=8\n`;
  const answers = ['verb=install\ngeneration=8\n', undefined, `bearer=x y\ngeneration=8\n`, order];
  const { ramdisk, requests } = await prepare(t, () => [200, answers.shift()]);
  claimed(ramdisk);
  await ramdisk.shell('sleep() { :; }; next_order');
  t.equal(ramdisk.read('run/order'), 'verb=install\ngeneration=8\n');
  t.same(
    requests.map(({ authorization }) => authorization),
    Array(4).fill(`Bearer ${BEARER}`),
  );
});

test('machines that lost their appliance together come back at different times', async (t) => {
  const { ramdisk } = await prepare(t, () => [204, '']);
  const pauses = (await ramdisk.shell('for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do jitter; echo; done')).trim().split('\n');
  t.ok(
    pauses.every((pause) => /^[0-8]\.[0-9]{2}$/.test(pause)),
    pauses.join(),
  );
  t.ok(new Set(pauses).size > 8, pauses.join());
});

test('an appliance that is away for a moment is asked again, and one that says no is not', async (t) => {
  const statuses = [503, 500, 200];
  const { ramdisk, requests } = await prepare(t, () => [statuses.shift() ?? 204, '']);
  claimed(ramdisk);
  t.equal(await ramdisk.shell('insist /boot/v1/files'), '200\n');
  t.equal(requests.length, 3);

  const refusing = await prepare(t, () => [403, '']);
  claimed(refusing.ramdisk);
  t.equal(await refusing.ramdisk.shell('insist /boot/v1/files'), '403\n');
  t.equal(refusing.requests.length, 1);
});

test('the log goes without the token that the kernel was started with', async (t) => {
  const { ramdisk, requests } = await prepare(t, () => [204, '']);
  claimed(ramdisk);
  ramdisk.put('run/log', 'Command line: boot=rackstart rackstart.token=s3cret console=ttyS0\nsfdisk: no such disk\n');
  await ramdisk.shell('dmesg() { :; }; send_log');
  t.match(requests[0]?.body, /rackstart\.token=\.\.\. console=ttyS0\nsfdisk: no such disk/);
  t.notMatch(requests[0]?.body, /s3cret/);
});

interface Request {
  path: string;
  authorization: string | undefined;
  body: string;
  form: URLSearchParams;
}

/** An answer without a body breaks off. */
async function prepare(t: Test, answer: () => readonly [number, string | undefined]) {
  const requests: Request[] = [];
  const server = createServer(CERTIFICATE, (request, response) => {
    void text(request).then((body) => {
      const { url = '', headers } = request;
      requests.push({ path: url, authorization: headers.authorization, body, form: new URLSearchParams(body) });
      const [status, content] = answer();
      if (content !== undefined) return response.writeHead(status).end(content);
      response.writeHead(status, { 'content-length': '500' });
      response.write(`bearer=${NEXT_BEARER}\nverb=install\ngeneration=8`, () => response.destroy());
      return undefined;
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());

  const ramdisk = fakeRamdisk(t);
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  ramdisk.put('etc/ca.pem', CERTIFICATE.cert);
  ramdisk.put('run/url', `${url}\n`);
  ramdisk.put(
    'proc/cmdline',
    `boot=rackstart rackstart.url=${url} rackstart.token=token-0123456789+/= rackstart.mac=52-54-00-77-00-01\n`,
  );
  ramdisk.put('sys/class/dmi/id/product_uuid', '4C4C4544-0077\n');
  return { ramdisk, requests };
}

function claimed(ramdisk: FakeRamdisk): void {
  ramdisk.put('run/bearer', `Authorization: Bearer ${BEARER}\n`);
  ramdisk.put('run/order', 'verb=wait\ngeneration=7\n');
}

function selfSigned(): { key: string; cert: string } {
  const directory = mkdtempSync(join(tmpdir(), 'rs-certificate-'));
  const [key, cert] = [join(directory, 'key.pem'), join(directory, 'cert.pem')];
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  const subject = ['-subj', '/CN=rackstart test', '-addext', 'subjectAltName=IP:127.0.0.1'];
  execFileSync('openssl', ['req', '-x509', ...curve, ...subject, '-keyout', key, '-out', cert], { stdio: 'ignore' });
  const pair = { key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') };
  rmSync(directory, { recursive: true });
  return pair;
}
