import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { dirname } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';

import type { Test } from 'tap';
import { test } from 'tap';

import { MINUTE, SECOND } from '../../appliance/kernel/clock.ts';
import { ManualClock } from '../../appliance/kernel/manual-clock.ts';
import type { ImportDeps } from './import.ts';
import { importImage } from './import.ts';
import { addressList } from './public-address.ts';
import { scratch } from './qemu-img.fixture.ts';
import { opensslMissing, selfSigned } from './certificate.fixture.ts';

const image = randomBytes(300_000);
const sha256 = createHash('sha256').update(image).digest('hex');
const whole: Handler = (request, response) => serve(request, response);
const skip = opensslMissing();

void test('an image comes by https from the address that was checked, as it is there', { skip }, async (t) => {
  const site = await open(t, whole);
  t.same(await site.run(), { bytes: image.length });
  t.ok(readFileSync(site.file).equals(image));
  t.same(readdirSync(dirname(site.file)), ['image'], 'and nothing beside it');
  t.match(site.requests, [{ host: `images.test:${site.port}`, 'accept-encoding': 'identity', range: undefined }]);
  t.same(site.asked, ['images.test']);
});

void test('a stream that is cut goes on where it ended', { skip }, async (t) => {
  const site = await open(t, (request, response, count) => {
    if (count <= 2) cut(request, response, 100_000);
    else serve(request, response);
  });
  t.same(await site.run(), { bytes: image.length });
  t.ok(readFileSync(site.file).equals(image));
  const begins = site.requests.map(({ range }) => Number(/^bytes=(\d+)-$/.exec(range ?? '')?.[1] ?? 0));
  t.equal(begins.length, 3);
  t.ok(0 < begins[1]! && begins[1]! < begins[2]!, begins.join());
  t.equal(site.requests[1]?.['if-range'], '"1"');
});

void test('an import that failed is gone on with after a restart, of the same file alone', { skip }, async (t) => {
  const site = await open(t, (request, response, count) => {
    if (count === 1) cut(request, response, 100_000);
    else serve(request, response);
  });
  await t.rejects(site.run({ tries: 1 }), { code: 'image.source-failed' });
  const { size } = statSync(site.file);
  t.ok(size > 0 && size <= 100_000, String(size));
  t.same(await site.run({ tries: 1 }), { bytes: image.length });
  t.equal(site.requests[1]?.range, `bytes=${size}-`);
  // Another file by then: it begins at the first byte.
  const other = await open(t, (request, response, count) => {
    if (count === 1) cut(request, response, 100_000, { content: randomBytes(image.length) });
    else serve(request, response, { etag: '"2"' });
  });
  t.same(await other.run(), { bytes: image.length });
  t.ok(readFileSync(other.file).equals(image));
  t.equal(other.requests[1]?.['if-range'], '"1"');
});

void test('a server that names no version of its file is asked for all of it again', { skip }, async (t) => {
  for (const etag of [null, 'W/"1"']) {
    const site = await open(t, (request, response, count) => {
      if (count === 1) cut(request, response, 100_000, { etag });
      else serve(request, response, { etag });
    });
    t.same(await site.run(), { bytes: image.length });
    t.equal(site.requests[1]?.range, undefined);
  }
});

void test('what is no https URL of a listed host is refused before anybody is asked', { skip }, async (t) => {
  const site = await open(t, whole);
  const urls = [
    `http://images.test:${site.port}/image`,
    `https://images.test/image`,
    `https://other.test:${site.port}/image`,
    `https://sub.images.test:${site.port}/image`,
    `https://images.test.:${site.port}/image`,
    `https://user:secret@images.test:${site.port}/image`,
    `https://images.test:${site.port}/image#part`,
    'file:///etc/passwd',
    'images.test/image',
    '',
  ];
  for (const url of urls) await t.rejects(site.run({ url }), { code: 'image.source-refused' }, url);
  t.same([site.asked, site.requests], [[], []]);
});

void test(
  'a name that leads into the house is refused, and so is one that does so among others',
  { skip },
  async (t) => {
    for (const addresses of [
      ['10.0.0.1'],
      ['169.254.169.254'],
      ['::1'],
      ['::ffff:127.0.0.3'],
      ['127.0.0.2', '192.168.0.1'],
    ]) {
      const site = await open(t, whole, { addresses: () => addresses });
      await t.rejects(site.run(), { code: 'image.source-refused' }, addresses.join());
      t.same(site.requests, []);
    }
    const nowhere = await open(t, whole, { addresses: () => [] });
    await t.rejects(nowhere.run({ tries: 1 }), { code: 'image.source-failed' });
    const literal = await open(t, whole);
    const url = `https://127.0.0.1:${literal.port}/image`;
    await t.rejects(literal.run({ url, hosts: [`127.0.0.1:${literal.port}`] }), { code: 'image.source-refused' });
  },
);

void test('a name server that changes its mind moves nobody into the house', { skip }, async (t) => {
  // Right at the first question, another at each that follows: the connection has one question, the next connection its own.
  const site = await open(t, (request, response) => cut(request, response, 100_000), {
    addresses: (count) => (count === 1 ? ['127.0.0.2'] : ['127.0.0.3']),
  });
  await t.rejects(site.run(), { code: 'image.source-refused', message: /127\.0\.0\.3/ });
  t.same(site.asked.length, 2);
  t.same(site.requests.length, 1, 'the second address was never spoken to');
  t.same(readdirSync(dirname(site.file)), [], 'and nothing stays');
});

void test('redirects, errors and other codings are not followed, believed or undone', { skip }, async (t) => {
  const answers: readonly { title: string; answer: Handler; code: string; message?: RegExp }[] = [
    {
      title: 'a redirect',
      answer: (_, response) => void response.writeHead(302, { location: 'https://10.0.0.1/' }).end(),
      code: 'image.source-refused',
      message: /to "https:\/\/10/,
    },
    { title: 'not there', answer: (_, response) => void response.writeHead(404).end(), code: 'image.source-refused' },
    {
      title: 'compressed',
      answer: (_, response) => void response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(image)),
      code: 'image.source-refused',
    },
    {
      title: 'another part',
      answer: (_, response) => void response.writeHead(206, { 'content-range': 'bytes 5-9/10' }).end('12345'),
      code: 'image.source-failed',
    },
    {
      title: 'its own error',
      answer: (_, response) => void response.writeHead(503).end(),
      code: 'image.source-failed',
    },
    {
      title: 'another file',
      answer: (_, response) => void response.writeHead(200).end('another'),
      code: 'image.digest',
    },
    {
      title: 'a longer file than is taken',
      answer: (_, response) => void response.writeHead(200, { 'content-length': 2_000_000 }).end(),
      code: 'image.too-large',
    },
    {
      title: 'a file without end',
      answer: (_, response) => void response.writeHead(200).end(Buffer.alloc(1_500_000)),
      code: 'image.too-large',
    },
  ];
  for (const { title, answer, code, message = /./ } of answers) {
    const site = await open(t, answer);
    await t.rejects(site.run({ tries: 1 }), { code, message }, title);
    t.notOk(existsSync(site.file) && statSync(site.file).size > 0, `${title}: nothing stays`);
  }
});

void test(
  'a certificate that is not of a believed authority, or of another name, ends it before a word is said',
  { skip },
  async (t) => {
    const stranger = await open(t, whole, { ca: selfSigned(t, 'images.test').certificate });
    await t.rejects(stranger.run({ tries: 1 }), {
      code: 'image.source-failed',
      message: /certificate|self-signed|signature/,
    });
    const other = await open(t, whole, { name: 'other.test' });
    await t.rejects(other.run({ tries: 1 }), { code: 'image.source-failed', message: /altnames|Hostname/ });
    t.same([stranger.requests, other.requests], [[], []]);
  },
);

void test('a server that falls silent is left, and what came of it is kept', { skip }, async (t) => {
  const site = await open(
    t,
    (_, response) => void response.writeHead(200, { etag: '"1"' }).write(image.subarray(0, 50_000)),
  );
  await t.rejects(site.run({ tries: 1 }), { code: 'image.source-failed', message: /Nothing came/ });
  t.equal(statSync(site.file).size, 50_000);
});

void test('an import that trickles on ends when its time is over', { skip }, async (t) => {
  const site = await open(t, (_, response) => {
    response.writeHead(200, { etag: '"1"' });
    const drip = () => {
      if (!response.destroyed) response.write('.', () => setImmediate(drip));
    };
    drip();
  });
  await t.rejects(site.run(), { code: 'image.source-failed', message: /took longer/ });
});

void test('an import that nobody wants any more ends at once, with that reason', { skip }, async (t) => {
  const abort = new AbortController();
  const site = await open(t, () => abort.abort(new Error('nobody wants it')));
  await t.rejects(site.run({ signal: abort.signal }), { message: 'nobody wants it' });
});

type Handler = (request: IncomingMessage, response: ServerResponse, count: number) => void;

interface Site {
  readonly file: string;
  readonly port: number;
  /** Headers of what was asked of the server. */
  readonly requests: readonly IncomingMessage['headers'][];
  /** Names that were resolved. */
  readonly asked: readonly string[];
  run(other?: { url?: string; tries?: number; hosts?: string[]; signal?: AbortSignal }): Promise<{ bytes: number }>;
}

/** An https server on 127.0.0.2, which an operator has listed, under a name that no name server knows. */
async function open(
  t: Test,
  handle: Handler,
  {
    addresses = () => ['127.0.0.2'],
    name = 'images.test',
    ca,
  }: { addresses?: (count: number) => string[]; name?: string; ca?: string } = {},
): Promise<Site> {
  const own = selfSigned(t, name);
  const [requests, asked]: [IncomingMessage['headers'][], string[]] = [[], []];
  const server = createServer({ key: own.key, cert: own.certificate }, (request, response) => {
    requests.push(request.headers);
    handle(request, response, requests.length);
  }).listen(0, '127.0.0.2');
  await once(server, 'listening');
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  const { port } = server.address() as AddressInfo;
  const file = scratch(t)('image');
  const clock = new ManualClock();
  const resolve = (host: string) => Promise.resolve(addresses(asked.push(host)));
  return {
    file,
    port,
    requests,
    asked,
    run: ({
      url = `https://images.test:${port}/image`,
      tries = 5,
      hosts = [`images.test:${port}`],
      signal = new AbortController().signal,
    } = {}) => {
      const rules = { hosts, allowed: addressList(['127.0.0.2/32']), resolve };
      const limits = { mostBytes: 1_000_000, silence: MINUTE, inAll: 5 * MINUTE, tries };
      const deps: ImportDeps = { clock, rules, limits, ca: ca ?? own.certificate };
      let stage = '';
      const progress = (at: string) => (stage = at);
      const work = importImage({ url, sha256, file, signal, progress }, deps);
      return whileTimePasses(clock, work, () => stage !== 'hashing');
    },
  };
}

/** A second passes in each five milliseconds, which leave the peers time to answer. A thread's work takes longer. */
async function whileTimePasses<T>(clock: ManualClock, work: Promise<T>, passes: () => boolean): Promise<T> {
  const over = new AbortController();
  const end = work.finally(() => over.abort());
  end.catch(() => undefined);
  while (!over.signal.aborted) {
    await pause(5);
    if (passes()) await clock.advance(SECOND);
  }
  return end;
}

/** What the server has, and by which version it calls it; null: by none. */
interface Served {
  readonly content?: Buffer;
  readonly etag?: string | null;
}

/** The image, or what is asked of it. */
function serve(request: IncomingMessage, response: ServerResponse, served: Served = {}): void {
  response.end(begin(request, response, served));
}

/** As `serve`, and then the connection is cut after so many bytes. */
function cut(request: IncomingMessage, response: ServerResponse, bytes: number, served: Served = {}): void {
  response.write(begin(request, response, served).subarray(0, bytes), () => request.socket.end());
}

/** Answers with headers; gives the bytes that belong behind them. */
function begin(
  { headers }: IncomingMessage,
  response: ServerResponse,
  { content = image, etag = '"1"' }: Served,
): Buffer {
  const tag = etag === null ? {} : { etag };
  const from = Number(/^bytes=(\d+)-$/.exec(headers.range ?? '')?.[1] ?? 0);
  if (from === 0 || headers['if-range'] !== etag) {
    response.writeHead(200, { ...tag, 'content-length': content.length });
    return content;
  }
  response.writeHead(206, { ...tag, 'content-range': `bytes ${from}-${content.length - 1}/${content.length}` });
  return content.subarray(from);
}
