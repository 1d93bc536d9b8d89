import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
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

test('a machine that is told to wait asks on until there is an order, obeys it, and ends when it is told so', async (t) => {
  const next = [reply(204), reply(204), order('inspect', 8), reply(409)];
  const { boot, start, asked, reports } = await play(t, { claim: order('wait', 7), next });
  t.strictSame(await runRamdisk(start, boot, () => undefined), { kind: 'cut off' });
  t.strictSame(asked(), [
    'claim',
    ...['report', 'report', 'report', 'report', 'next 7', 'next 7', 'next 7'],
    ...['report', 'inspection', 'report', 'next 8'],
  ]);
  t.strictSame(reports(), [
    ...['7 network started', '7 network done', '7 claim started', '7 claim done'],
    ...['8 inspect started', '8 inspect done'],
  ]);
});

test('an order of the same generation is not obeyed again', async (t) => {
  const next = [order('inspect', 7), reply(410)];
  const { boot, start, asked } = await play(t, { claim: order('inspect', 7), next });
  t.strictSame(await runRamdisk(start, boot, () => undefined), { kind: 'cut off' });
  t.equal(asked().filter((what) => what === 'inspection').length, 1);
});

test('a disk that fails is told as the ramdisk tells it, and leaves nothing that could boot', async (t) => {
  const image = Buffer.from('image');
  const sha256 = createHash('sha256').update(image).digest('hex');
  const facts = { image_sha256: sha256, image_bytes: image.length, image_raw_bytes: 9_000_000 };
  const images = createPlainServer((_request, response) => response.end(image)).listen(0, '127.0.0.1');
  await once(images, 'listening');
  t.teardown(() => images.close());
  const url = `http://127.0.0.1:${(images.address() as AddressInfo).port}/image`;
  const claim = order('install', 7, { ...facts, image_url: url });
  const { boot, start, reports, forms } = await play(t, { claim, next: [reply(409)] }, { diskWrite: 1 });
  const erased: string[] = [];
  t.strictSame(await runRamdisk(start, boot, () => erased.push('erased')), { kind: 'cut off' });
  t.strictSame(reports().slice(-2), ['7 image started', '7 image failed']);
  t.match(forms('report').at(-1), {
    code: 'boot.stage-failed',
    reason: /^writing to \/dev\/sda failed: dd: .*Input\/output error$/,
  });
  t.strictSame(erased, ['erased']);
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

interface Reply {
  readonly status: number;
  readonly body: string;
}

function reply(status: number, body = ''): Reply {
  return { status, body };
}

function order(verb: string, generation: number, facts: Record<string, string | number> = {}): Reply {
  const lines = Object.entries({ protocol: 1, bearer: 'bearer-of-a-boot', verb, generation, ...facts });
  return reply(200, lines.map(([key, value]) => `${key}=${value}\n`).join(''));
}

interface Script {
  readonly claim: Reply;
  /** One after the other. */
  readonly next: readonly Reply[];
  readonly report?: Reply;
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
  const start = { url, claimToken: 'claim-token-of-this-boot', address: '127.0.0.1', ca: cert };
  const forms = (what: string) =>
    heard.filter((each) => each.what === what).map(({ body }) => Object.fromEntries(new URLSearchParams(body)));
  return {
    ...{ boot: bootOf(rates, power.signal), start, power, forms },
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
