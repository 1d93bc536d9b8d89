import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

import type { Test } from 'tap';

import { opensslMissing, selfSigned } from '../../images/ingest/certificate.fixture.ts';
import { tinyDisk } from '../../lab/disk/tiny-disk.ts';
import { SECOND } from '../kernel/clock.ts';
import type { ManualClock } from '../kernel/manual-clock.ts';
import type { Store } from '../store/store.ts';
import { eachStore, sqliteStore } from '../store/test-stores.ts';
import type { Caller } from './api.fixture.ts';
import { codeOf, complaints } from './api.fixture.ts';
import { imageBench, part, sha256 } from './images.fixture.ts';

const disk = tinyDisk();
const openssl = opensslMissing();

eachStore('an image is fetched from a listed host with an authority of its own', async (t, store, { clock }) => {
  if (openssl !== false) {
    t.plan(0, openssl);
    return;
  }
  const source = await httpsServer(t);
  const { operator, fetched, events, files } = await open(t, store, clock, source);
  const end = await fetched(operator, source.url('/debian.raw'));
  t.match(end, { state: 'done', stage: null, image: String, error: null, tenant: null });
  t.match(await operator.get('/images'), {
    body: { images: [{ name: 'debian', sha256: sha256(disk), sourceFormat: 'raw', rawBytes: disk.length }] },
  });
  t.match(await events(), ['image.import-begun', 'inventory.added']);
  t.same(source.asked, ['/debian.raw'], 'it was asked for once');
  t.notOk(files().some((file) => file.startsWith('imports/')));
});

sqliteStore('what is not an https URL of a listed host is refused before anything is begun', async (t, store, c) => {
  if (openssl !== false) {
    t.plan(0, openssl);
    return;
  }
  const source = await httpsServer(t);
  const bench = await open(t, store, c.clock, source);
  const { operator } = bench;
  const { member } = await bench.tenant('acme');
  const { port } = new URL(source.url('/'));
  for (const url of [
    `https://127.0.0.1:${port}/debian.raw`,
    'https://localhost/debian.raw',
    `https://other.example:${port}/debian.raw`,
    `https://localhost.example:${port}/debian.raw`,
    `https://somebody:secret@localhost:${port}/debian.raw`,
  ]) {
    for (const by of [operator, member]) {
      t.equal(codeOf(await by.post('/images/imports', { ...declared, url })), 'image.source-refused', url);
    }
  }
  for (const url of [`http://localhost:${port}/debian.raw`, 'file:///etc/passwd']) {
    t.same(complaints(await operator.post('/images/imports', { ...declared, url })), ['/url'], url);
  }
  t.same((await operator.get('/images/imports')).body, { imports: [] });
  t.same(source.asked, [], 'and nobody was asked');
});

sqliteStore(
  'a source that can not be trusted ends its import with the reason, and nothing stays',
  async (t, store, c) => {
    if (openssl !== false) {
      t.plan(0, openssl);
      return;
    }
    const source = await httpsServer(t);
    const { operator, fetched, files } = await open(t, store, c.clock, source);
    t.match(await fetched(operator, source.url('/debian.raw'), { name: 'good' }), { state: 'done' });
    const before = files();
    for (const [path, change, code] of [
      ['/redirect', {}, 'image.source-refused'],
      ['/nowhere', {}, 'image.source-refused'],
      ['/debian.raw', { sha256: 'ab'.repeat(32) }, 'image.digest'],
      ['/debian.raw', { format: 'qcow2' }, 'image.format'],
      ['/large', {}, 'image.too-large'],
      ['/endless', {}, 'image.too-large'],
    ] as const) {
      const what = `${path} ${JSON.stringify(change)}`;
      t.match(
        await fetched(operator, source.url(path), change),
        { state: 'failed', image: null, error: { code } },
        what,
      );
      t.same(files(), before, `${what} leaves nothing`);
    }
    t.notOk(source.asked.includes('/elsewhere'), 'no redirect was followed');
    t.match(await operator.get('/images'), { body: { images: [{ name: 'good' }] } });
  },
);

sqliteStore('a host within the house, or one that somebody else speaks for, is not believed', async (t, store, c) => {
  if (openssl !== false) {
    t.plan(0, openssl);
    return;
  }
  const source = await httpsServer(t);
  const inside = await open(t, store, c.clock, source, { allowedCidrs: [] });
  t.match(await inside.fetched(inside.operator, source.url('/debian.raw')), {
    state: 'failed',
    error: { code: 'image.source-refused', message: /not an address of the internet/ },
  });
  const stranger = await open(t, store, c.clock, source, { ca: selfSigned(t, 'localhost').file });
  t.match(await stranger.fetched(stranger.operator, source.url('/debian.raw')), {
    state: 'failed',
    error: { code: 'image.source-failed', message: /certificate|self-signed|signature/ },
  });
  t.same(source.asked, [], 'and was asked for nothing');
});

eachStore(
  'a tenant fetches and sends images within its quota, and none that would pass it',
  async (t, store, { clock }) => {
    if (openssl !== false) {
      t.plan(0, openssl);
      return;
    }
    const source = await httpsServer(t);
    // Whole as a file, and a little more as chunks, since nothing makes it smaller.
    const dense = tinyDisk(disk.length, randomBytes(disk.length));
    source.serve('/dense.raw', dense);
    const bench = await open(t, store, clock, source, {}, dense.length + 10);
    const { operator, fetched, send, ended } = bench;
    const [{ member }, { member: other }] = [await bench.tenant('acme'), await bench.tenant('umbrella')];

    const full = { state: 'failed', image: null, error: { code: 'quota.exceeded' } };
    t.match(await fetched(member, source.url('/large')), full, 'more than is left of it comes');
    t.match(
      await fetched(member, source.url('/dense.raw'), { sha256: sha256(dense) }),
      full,
      'what it becomes is more',
    );
    t.same((await member.get('/images')).body, { images: [] });

    t.match(await fetched(member, source.url('/debian.raw')), { state: 'done' });
    const begun = { ...declared, version: '13', sha256: sha256(dense) };
    const upload = await member.post('/images/uploads', { ...begun, bytes: dense.length });
    t.match([upload.status, codeOf(upload)], [403, 'quota.exceeded'], 'what it has counts');

    const { id } = (await member.post('/images/uploads', { ...begun, bytes: dense.length - 2_000 })).body as {
      id: string;
    };
    await part(member, `/images/uploads/${id}`, 0, dense.subarray(0, 1_000));
    t.match(await fetched(member, source.url('/dense.raw'), begun), full, 'what is under way counts');

    t.match(await fetched(other, source.url('/debian.raw')), { state: 'done' }, 'nobody else is held up by it');
    t.match(await ended(await send(operator, { name: 'dense', format: 'raw', content: dense })), { state: 'done' });
  },
);

const declared = { name: 'debian', version: '12', format: 'raw', sha256: sha256(disk) };

/** A bench that fetches from that server alone; of files up to 1 MB. */
async function open(
  t: Test,
  store: Store,
  clock: ManualClock,
  source: HttpsServer,
  imports: { allowedCidrs?: string[]; ca?: string } = {},
  tenantBytes = 1e9,
) {
  const rules = { hosts: [source.host], allowedCidrs: ['127.0.0.0/8', '::1/128'], ca: source.ca, mostBytes: 1_000_000 };
  const bench = await imageBench(t, store, clock, { images: { tenantBytes, imports: { ...rules, ...imports } } });
  return {
    ...bench,
    /** What becomes of an import, while its pauses pass: a second in five milliseconds, in which a database answers a lease. */
    fetched: async (by: Caller, url: string, change: object = {}) => {
      const answer = await by.post('/images/imports', { ...declared, ...change, url });
      t.equal(answer.status, 202, answer.text);
      const ending = bench.ended((answer.body as { import: string }).import, by);
      const over = new AbortController();
      void ending.finally(() => over.abort());
      while (!over.signal.aborted) {
        await pause(5);
        await clock.advance(SECOND);
      }
      return ending;
    },
  };
}

interface HttpsServer {
  /** As the configuration lists it. */
  readonly host: string;
  /** File with its authority, which is its own. */
  readonly ca: string;
  /** Paths, in the order in which they were asked for. */
  readonly asked: readonly string[];
  url(path: string): string;
  serve(path: string, content: Buffer): void;
}

async function httpsServer(t: Test): Promise<HttpsServer> {
  const { key, certificate: cert, file: ca } = selfSigned(t, 'localhost');
  const files = new Map([['/debian.raw', disk]]);
  const asked: string[] = [];
  const server = createServer({ key, cert }, ({ url = '' }: IncomingMessage, response: ServerResponse) => {
    asked.push(url);
    const content = files.get(url);
    if (content !== undefined) response.writeHead(200, { 'content-length': content.length, etag: '"1"' }).end(content);
    else if (url === '/redirect') response.writeHead(302, { location: '/elsewhere' }).end();
    else if (url === '/large') response.writeHead(200, { 'content-length': 2_000_000 }).flushHeaders();
    else if (url === '/endless') for (let left = 20; left > 0; left--) response.write(Buffer.alloc(100_000));
    else response.writeHead(404).end();
  });
  server.listen(0, 'localhost');
  await once(server, 'listening');
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  const host = `localhost:${String((server.address() as AddressInfo).port)}`;
  return {
    host,
    ca,
    asked,
    url: (path) => `https://${host}${path}`,
    serve: (path, content) => void files.set(path, content),
  };
}
