import { execFileSync } from 'node:child_process';
import { hash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer as createPlainServer } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { createSecureContext } from 'node:tls';
import { test } from 'tap';
import type { Test } from 'tap';

import { systemClock } from '../../appliance/kernel/clock.ts';
import { createIds } from '../../appliance/kernel/ids.ts';
import { until } from '../process/until.ts';
import { Boot } from './boot.ts';
import type { FaultRates } from './faults.ts';
import { bootFaults } from './faults.ts';
import { describeMachine } from './fleet.ts';
import { runRamdisk } from './ramdisk.ts';
import { scaledClock } from './scaled-clock.ts';
import { SshDoor } from './ssh-door.ts';
import { Notebook } from './statistics.ts';
import { Wire } from './wire.ts';

test('a machine that is told to wait is inspected, asks on until there is an order, obeys it, and ends when it is told so', async (t) => {
  const next = [reply(204), reply(204), order('inspect', 8), reply(409)];
  const { boot, start, asked, reports } = await play(t, { claim: order('wait', 7), next });
  t.strictSame(await runRamdisk(start, boot, () => undefined), { kind: 'cut off' });
  t.strictSame(asked(), [
    'claim',
    ...['report', 'report', 'report', 'report', 'report', 'inspection', 'report', 'report', 'check', 'report'],
    ...['next 7', 'next 7', 'next 7'],
    ...['report', 'inspection', 'report', 'report', 'check', 'report', 'next 8'],
  ]);
  t.strictSame(reports(), [
    ...['7 network started', '7 network done', '7 claim started', '7 claim done'],
    ...['7 inspect started', '7 inspect done', '7 check started', '7 check done'],
    ...['8 inspect started', '8 inspect done', '8 check started', '8 check done'],
  ]);
});

test('each fault of health is told in a check, and what is missing in the inspection before it', async (t) => {
  for (const [fault, told, also] of [
    ['memory', /^memory_wrong_bytes=3$/m],
    ['disk-unreadable', /^disk=sda\|\d+\|sim-1-0\|1048576\|ok$/m],
    ['disk-smart', /^disk=sda\|\d+\|sim-1-0\|ok\|failing$/m],
    ['disk-missing', /^clock_offset=0\nnic=/m, /^firmware=\w+\nnic=/m],
    ['nic-slow', /^nic=eth0\|[0-9a-f:]+\|up\|100$/m, /\|up\|100$/m],
    ['clock', /^clock_offset=-86400$/m],
    ['cpu-missing', /^cores=2$/m, /^cores=2$/m],
    ['memory-missing', /^memory_kib=4194304$/m, /^memory_kib=4194304$/m],
  ] as const) {
    const script = { claim: order('inspect', 7), next: [reply(409)] };
    for (const rate of [0, 1]) {
      const { boot, start, bodies } = await play(t, script, { health: { [fault]: rate } });
      await runRamdisk(start, boot, () => undefined);
      t.equal(told.test(bodies('check')[0] ?? ''), rate === 1, `${fault} ${rate}: ${bodies('check')[0]}`);
      if (also !== undefined) t.equal(also.test(bodies('inspection')[0] ?? ''), rate === 1);
    }
  }
});

test('a wipe leaves a certificate, also one that fails, and then the disk is as it was', async (t) => {
  for (const [rate, result, end] of [
    [0, /^digest=b69dae56[0-9a-f]{56}\nresult=passed$/m, '7 wipe done'],
    [1, /^result=failed\nreason=it still holds data/m, '7 wipe failed'],
  ] as const) {
    const script = { claim: order('wipe', 7), next: [reply(409)] };
    const { boot, start, bodies, reports } = await play(t, script, { wipe: rate });
    const erased: string[] = [];
    await runRamdisk(start, boot, () => erased.push('erased'));
    t.match(bodies('wiped')[0], result);
    t.equal(reports().at(-1), end);
    t.equal(erased.length, 1 - rate);
  }
});

test('an order of the same generation is not obeyed again', async (t) => {
  const next = [order('inspect', 7), reply(410)];
  const { boot, start, asked } = await play(t, { claim: order('inspect', 7), next });
  t.strictSame(await runRamdisk(start, boot, () => undefined), { kind: 'cut off' });
  t.equal(asked().filter((what) => what === 'inspection').length, 1);
});

test('a disk that fails is told as the ramdisk tells it, and leaves nothing that could boot', async (t) => {
  const facts = await serveImage(t, (chunk) => chunk);
  const claim = order('install', 7, facts);
  const { boot, start, reports, forms } = await play(t, { claim, next: [reply(409)] }, { diskWrite: 1 });
  const erased: string[] = [];
  t.strictSame(await runRamdisk(start, boot, () => erased.push('erased')), { kind: 'cut off' });
  t.strictSame(reports().slice(-2), ['7 image started', '7 image failed']);
  t.match(forms('report').at(-1), {
    code: 'disk.failed',
    reason: 'writing to /dev/sda failed: Input/output error',
  });
  t.strictSame(erased, ['erased']);
});

test('a chunk that comes altered is fetched again, three times in all, and then fails the attempt with that reason', async (t) => {
  for (const [alteredTimes, last] of [
    [2, '7 grow done'],
    [3, '7 image failed'],
  ] as const) {
    let sent = 0;
    const facts = await serveImage(t, (chunk) => (sent++ < alteredTimes ? 'other' : chunk));
    const claim = order('install', 7, facts);
    const { boot, start, reports, forms } = await play(t, { claim, next: [reply(409)], files: reply(403) });
    t.strictSame(await runRamdisk(start, boot, () => undefined), { kind: 'cut off' });
    t.ok(reports().includes(last), `${alteredTimes} times: ${reports().join(', ')}`);
    t.equal(sent, 3);
    if (alteredTimes < 3) continue;
    const reason = "the image's chunk at byte 0 came 3 times with another content than its digest says";
    t.match(forms('report').at(-1), { code: 'image.altered', reason });
  }
});

test('a report that is refused ends the boot, and no next stage is begun', async (t) => {
  const { boot, start, asked } = await play(t, { claim: order('install', 7), report: reply(409), next: [] });
  t.strictSame(await runRamdisk(start, boot, () => undefined), { kind: 'cut off' });
  t.strictSame(asked(), ['claim', 'report']);
});

test('a false claim shows another UUID or token, and a refused machine does nothing more', async (t) => {
  for (const kind of ['uuid', 'token'] as const) {
    const { boot, start, asked, forms, power } = await play(
      t,
      { claim: reply(403), next: [] },
      { falseClaim: { [kind]: 1 } },
    );
    const running = runRamdisk(start, boot, () => undefined);
    await until('the claim', 5_000, () => asked().length > 0);
    power.abort(new Error('the power went off'));
    await t.rejects(running, { message: 'the power went off' });
    const [claim] = forms('claim');
    t.equal(claim?.['uuid'] === boot.deps.machine.uuid, kind !== 'uuid', kind);
    t.equal(claim?.['token'] === start.claimToken, kind !== 'token', kind);
    t.strictSame(asked(), ['claim']);
  }
});

test('a ramdisk that does not trust the appliance tells it nothing', async (t) => {
  const { boot, start, asked, power } = await play(t, { claim: order('wait', 7), next: [] }, { falseClaim: { ca: 1 } });
  const running = runRamdisk(start, boot, () => undefined);
  const failed = () => boot.deps.notes.read({ machines: 1, on: 1, systems: 0 }).counts['failed: claim'];
  await until('a handshake that fails', 5_000, failed);
  power.abort(new Error('the power went off'));
  await t.rejects(running, { message: 'the power went off' });
  t.strictSame(asked(), []);
});

/** An image of one chunk, sent as `answer` says, and what an order says of it. */
async function serveImage(t: Test, answer: (chunk: string) => string) {
  const chunk = 'chunk';
  const sha256 = hash('sha256', chunk);
  const map = `rackstart-chunk-map 1 512 ${sha256} 99\nchunk 0 512 0 ${chunk.length} ${sha256}\n`;
  const images = createPlainServer(({ url }, response) => {
    response.end(url === '/map' ? map : answer(chunk));
  }).listen(0, '127.0.0.1');
  await once(images, 'listening');
  t.teardown(() => images.close());
  const base = `http://127.0.0.1:${(images.address() as AddressInfo).port}`;
  const named = { image_map_url: `${base}/map`, image_map_sha256: hash('sha256', map), image_map_bytes: map.length };
  return { ...named, chunk_url: `${base}/chunk`, image_raw_bytes: 512 };
}

interface Reply {
  readonly status: number;
  readonly body: string;
}

function reply(status: number, body = ''): Reply {
  return { status, body };
}

function order(verb: string, generation: number, facts: Record<string, string | number> = {}): Reply {
  const lines = Object.entries({ protocol: 1, bearer: `bearer-of-boot-${generation}`, verb, generation, ...facts });
  return reply(200, lines.map(([key, value]) => `${key}=${value}\n`).join(''));
}

interface Script {
  readonly claim: Reply;
  /** One after the other. */
  readonly next: readonly Reply[];
  readonly report?: Reply;
  readonly files?: Reply;
}

/** A ramdisk about to start, and an appliance that says what it is told to say. */
async function play(t: Test, script: Script, rates: FaultRates = {}) {
  const { cert, key } = selfSigned(t);
  const heard: { what: string; body: string }[] = [];
  const waiting = [...script.next];
  const server = createServer({ cert, key }, (request, response) => {
    void text(request).then((body) => {
      const what = nameOf(request);
      heard.push({ what, body });
      const answers: Record<string, Reply> = {
        claim: script.claim,
        report: script.report ?? reply(204),
        files: script.files ?? reply(204),
      };
      const { status, body: said } = answers[what] ?? (what.startsWith('next') ? waiting.shift()! : reply(204));
      response.writeHead(status).end(said);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const power = new AbortController();
  const pinned = { ca: cert, version: '0123456789abcdef' };
  const start = { url, claimToken: 'claim-token-of-this-boot', address: '127.0.0.1', ...pinned };
  const forms = (what: string) =>
    heard.filter((each) => each.what === what).map(({ body }) => Object.fromEntries(new URLSearchParams(body)));
  return {
    ...{ boot: bootOf(rates, power.signal), start, power, forms },
    bodies: (what: string) => heard.filter((each) => each.what === what).map(({ body }) => body),
    asked: () => heard.map(({ what }) => what),
    reports: () => forms('report').map(({ generation, stage, status }) => `${generation} ${stage} ${status}`),
  };
}

function bootOf(rates: FaultRates, signal: AbortSignal): Boot {
  const machine = describeMachine('seed', 1, []);
  const clock = scaledClock(systemClock, 100);
  return new Boot({
    ...{ seed: 'seed', clock, pace: clock, ids: createIds(clock), notes: new Notebook() },
    ...{ door: new SshDoor(), trust: (ca) => createSecureContext({ ca }), machine, number: 1 },
    faults: bootFaults('seed', rates, machine.name, 1),
    port: { ask: () => Promise.reject(new Error('no DHCP here')) },
    wire: new Wire(machine.name, { seed: 'seed', rates: {}, clock, onFault: () => undefined }),
    ...{ mishap: undefined, strays: undefined, print: () => undefined, listened: () => Promise.resolve() },
    ...{ say: () => undefined, powerOff: () => undefined, signal },
  });
}

function nameOf({ url = '' }: IncomingMessage): string {
  const { pathname, searchParams } = new URL(url, 'https://appliance');
  return `${pathname.split('/').at(-1)} ${searchParams.get('generation') ?? ''}`.trim();
}

function selfSigned(t: Test): { cert: string; key: string } {
  const directory = mkdtempSync(join(tmpdir(), 'rs-ramdisk-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const [cert, key] = [join(directory, 'cert.pem'), join(directory, 'key.pem')];
  const name = ['-subj', '/CN=appliance', '-addext', 'subjectAltName=IP:127.0.0.1'];
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  execFileSync('openssl', ['req', '-x509', '-days', '2', ...curve, ...name, '-keyout', key, '-out', cert], {
    stdio: 'ignore',
  });
  return { cert: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8') };
}
