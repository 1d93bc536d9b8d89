import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import type { AddressInfo, Socket } from 'node:net';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'tap';
import type { Test } from 'tap';

import { tinyDisk } from '../../lab/disk/tiny-disk.ts';
import type { Served } from './cli.fixture.ts';
import { place, read } from './cli.fixture.ts';

const BYTES = 4 * 1024 * 1024;

test('images are sent, followed and looked after from the command line', async (t) => {
  const bench = await open(t);
  await t.test('a cut connection costs an upload what was on its way alone', (t) => survivesACut(t, bench));
  await t.test('an upload that was broken off goes on when it is started again', (t) => goesOn(t, bench));
  await t.test('what can not become an image is refused with the reason, and leaves nothing', (t) => refuses(t, bench));
  t.equal((await bench.served.stop()).code, 0);
});

async function survivesACut(t: Test, { served, ok, fileOf }: Bench): Promise<void> {
  const disk = aDisk();
  const proxy = await cuttingProxy(t, served, BYTES / 2);
  const upload = [
    'image',
    'upload',
    fileOf('disk.raw', disk),
    '--name',
    'debian',
    '--version',
    '12',
    '--url',
    proxy.url,
  ];
  const { code, out, err } = await served.ask([...upload, '--kernel-args', 'quiet', '--json']);
  t.equal(code, 0, err);
  t.equal(proxy.cuts(), 1);
  t.match(err, /cut behind 0\.0 MB: No appliance answers/);
  t.ok(proxy.sent() < 1.9 * BYTES, 'what had arrived was not sent again');
  t.match(err, /debian:12 is there: .* of 4\.2 MB raw/);
  const image = JSON.parse(out) as { id: string };
  t.match(image, { sha256: sha256(disk), sourceFormat: 'raw', rootPartition: 1, partitionTable: 'mbr' });

  const again = await served.ask(upload);
  t.match(again, { code: 0, out: `${image.id}\n`, err: /is there already/ });

  t.match(await ok('image', 'list'), /^NAME .*\ndebian +12 +yes /);
  t.match(await ok('image', 'imports'), /debian +12 +done /);
  t.match(await ok('image', 'show', 'debian'), /root is partition 1 \(ext4\)/);
  t.match(await ok('image', 'deprecate', 'debian:12'), 'debian:12 is deprecated\n');
  t.match(await ok('image', 'list'), /debian +12 +deprecated /);
  t.match(await ok('image', 'undeprecate', image.id), 'debian:12 can be ordered again\n');
  t.match(await ok('image', 'remove', 'debian'), 'debian:12 is removed\n');
  t.same(JSON.parse(await ok('image', 'list', '--json')), { images: [] });
  t.match(await served.ask(['image', 'show', 'debian']), { code: 1, err: /There is no image debian/ });
}

async function goesOn(t: Test, { served, ok, fileOf, ask }: Bench): Promise<void> {
  const disk = aDisk();
  const declared = { name: 'debian', version: '13', format: 'raw', bytes: BYTES, sha256: sha256(disk) };
  const json = { 'content-type': 'application/json' };
  const begun = ask('/images/uploads', { method: 'POST', headers: json, body: JSON.stringify(declared) });
  const { id } = (await begun) as { id: string };
  const part = { 'content-type': 'application/offset+octet-stream', 'upload-offset': '0' };
  await ask(`/images/uploads/${id}`, { method: 'PATCH', headers: part, body: disk.subarray(0, 1_000_000) });
  t.match(await ok('image', 'uploads'), new RegExp(`${id} +debian +13 +raw +1\\.0 MB of 4\\.2 MB `));

  const upload = ['image', 'upload', fileOf('disk.raw', disk), '--name', 'debian', '--version', '13'];
  const { code, err } = await served.ask(upload);
  t.equal(code, 0, err);
  t.match(err, `goes on with ${id}: 1.0 MB are there`);
  t.notMatch(err, /cut behind/, 'it began where the other had ended');
  t.same(JSON.parse(await ok('image', 'uploads', '--json')), { uploads: [] });
}

async function refuses(t: Test, { served, ok, fileOf }: Bench): Promise<void> {
  const before = JSON.parse(await ok('image', 'list', '--json')) as unknown;
  const named = ['--name', 'debian', '--version', '12'];
  const upload = ['image', 'upload', fileOf('disk.img', aDisk()), ...named];
  t.match(await served.ask(upload), { code: 1, err: /does not say what format it is in/ });
  t.match(await served.ask([...upload, '--format', 'qcow2']), {
    code: 1,
    err: /debian:12 was not made, \w+: .* \(image\.format\)/,
  });
  const wrong = [...upload, '--format', 'raw', '--sha256', '00'.repeat(32)];
  t.match(await served.ask(wrong), { code: 1, err: /debian:12 was not made, hashing: .* \(image\.digest\)/ });
  const url = 'https://images.example/disk.qcow2';
  const fetched = ['image', 'import', url, ...named, '--sha256', '00'.repeat(32)];
  t.match(await served.ask(fetched), { code: 1, err: /image\.source-refused/ });
  t.same(JSON.parse(await ok('image', 'list', '--json')), before, 'no image has come of any');
  t.same(JSON.parse(await ok('image', 'uploads', '--json')), { uploads: [] });

  t.match(await served.ask(['image', 'cancel', 'upl_nothing']), { code: 1, err: /not-found/ });
}

interface Bench {
  readonly served: Served;
  readonly ok: (...args: string[]) => Promise<string>;
  readonly fileOf: (name: string, content: Buffer) => string;
  /** Asks the API without the command line. */
  readonly ask: (path: string, call: RequestInit) => Promise<unknown>;
}

async function open(t: Test): Promise<Bench> {
  const here = place(t);
  const served = await here.serve();
  const authorization = `Bearer ${read(here.directory, 'state/operator.key').trim()}`;
  return {
    served,
    ok: async (...args) => {
      const { code, out, err } = await served.ask(args);
      t.equal(code, 0, err);
      return out;
    },
    fileOf: (name, content) => {
      const path = join(here.directory, name);
      writeFileSync(path, content);
      return path;
    },
    ask: async (path, call) => {
      const headers = { authorization, ...(call.headers as Record<string, string>) };
      const response = await fetch(`${served.url}/api/v1${path}`, { ...call, headers });
      t.ok(response.ok, path);
      return response.status === 204 ? undefined : response.json();
    },
  };
}

/** Of no use to anybody, and nothing that compresses. */
function aDisk(): Buffer<ArrayBuffer> {
  return tinyDisk(BYTES, randomBytes(BYTES)) as Buffer<ArrayBuffer>;
}

function sha256(content: Buffer): string {
  return createHash('sha256').update(content).digest('hex');
}

/** Before the appliance: cuts the first connection that has brought `after` bytes. */
async function cuttingProxy(t: Test, { url }: Served, after: number) {
  let sent = 0;
  let cuts = 0;
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = connect(Number(new URL(url).port), '127.0.0.1');
    let brought = 0;
    client.on('data', (chunk) => {
      brought += chunk.length;
      sent += chunk.length;
      if (cuts > 0 || brought < after) return;
      cuts += 1;
      client.destroy();
      // What it has taken arrives; then it hears no more.
      upstream.end();
    });
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from);
      from.on('error', () => undefined).pipe(to);
      from.once('close', () => sockets.delete(from));
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, 'close');
  });
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, sent: () => sent, cuts: () => cuts };
}
