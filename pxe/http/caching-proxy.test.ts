import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { test } from 'tap';
import type { Test } from 'tap';

import { addImage, chunksIn } from '../../images/chunks.fixture.ts';
import { CHUNK_BYTES } from '../../images/zstd-frames.ts';
import { startProcess } from '../../lab/process/start.ts';
import { until } from '../../lab/process/until.ts';
import { ask, curl } from './ask.fixture.ts';
import { startRig } from './server.fixture.ts';

const NGINX = '/usr/sbin/nginx';
const skip = existsSync(NGINX) ? false : 'nginx is missing: apt-get install nginx-light';

test('a cache that knows nothing of us asks once for all machines, and goes on without us', { skip }, async (t) => {
  const rig = await startRig(t);
  const large = randomBytes(1_500_000);
  const { digest, text, whole, map } = addImage(chunksIn(rig.frozen), [large, 3 * CHUNK_BYTES, randomBytes(1000)]);
  const [chunk = ''] = map.segments.flatMap((segment) => (segment.kind === 'chunk' ? [segment.sha256] : []));
  const cache = await startNginx(t, rig.http);
  const things: readonly [string, Buffer][] = [
    [`/image/${digest}/map`, Buffer.from(text)],
    [`/image/${digest}/image.zst`, whole],
    [`/chunk/${chunk}`, large],
  ];

  const takeAll = () =>
    Promise.all(
      things.map(async ([path, content]) => {
        const { status, headers, bytes } = await ask(cache.url + path);
        const isWhole = status === 200 && headers['content-length'] === String(content.length) && bytes.equals(content);
        if (!isWhole || !headers['cache-control']?.includes('immutable')) t.fail(`${path}: ${status}`);
      }),
    );
  await Promise.all(Array.from({ length: 10 }, takeAll));
  t.same(cache.asked('MISS').sort(), things.map(([path]) => path).sort(), 'each is asked of us once');

  const [, , [path, content]] = things as [unknown, unknown, [string, Buffer]];
  const absent = `${cache.url}/chunk/${'0'.repeat(64)}`;
  for (const _again of [1, 2]) t.equal((await ask(absent)).status, 404);
  t.equal(cache.asked('MISS').filter((one) => absent.endsWith(one)).length, 2, 'what is not there may come');

  await rig.stop();
  await takeAll();
  t.ok((await curl('--continue-at', '700000', cache.url + path)).equals(content.subarray(700_000)), 'a part of it');
  const part = await ask(cache.url + path, { headers: { range: 'bytes=100-299', 'if-range': `"${chunk}"` } });
  t.match(part, { status: 206, headers: { 'content-range': `bytes 100-299/${content.length}` } });
  t.ok(part.bytes.equals(content.subarray(100, 300)));
  t.equal((await ask(cache.url + path, { headers: { 'if-none-match': `"${chunk}"` } })).status, 304);
});

interface Cache {
  readonly url: string;
  /** The paths of all requests that were answered so: MISS, HIT … */
  asked(status: string): string[];
}

/** As Debian ships it, with a cache and nothing else that is not so by itself. */
async function startNginx(t: Test, upstream: string): Promise<Cache> {
  const directory = mkdtempSync(join(tmpdir(), 'rs-nginx-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const port = await freePort();
  const at = (name: string) => join(directory, name);
  const scratch = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((what) => `${what}_temp_path ${at(what)};`);
  const configuration = `
    daemon off;
    pid ${at('pid')};
    error_log ${at('error.log')};
    ${process.getuid?.() === 0 ? 'user root;' : ''}
    events {}
    http {
      ${scratch.join(' ')}
      log_format asked '$upstream_cache_status $request_uri';
      access_log ${at('access.log')} asked;
      proxy_cache_path ${at('cache')} keys_zone=images:1m;
      server {
        listen 127.0.0.1:${port};
        location / {
          proxy_pass ${upstream};
          proxy_cache images;
          proxy_cache_lock on;
        }
      }
    }`;
  writeFileSync(at('nginx.conf'), configuration);
  const argv = [NGINX, '-e', at('error.log'), '-p', directory, '-c', at('nginx.conf')];
  const nginx = await startProcess({ argv, logFile: at('log') });
  t.teardown(() => nginx.stop());
  const url = `http://127.0.0.1:${port}`;
  await until('nginx to listen', 10_000, () =>
    ask(url)
      .then(() => true)
      .catch(() => false),
  );
  return {
    url,
    asked: (status) =>
      readFileSync(at('access.log'), 'utf8')
        .split('\n')
        .flatMap((line) =>
          line.startsWith(`${status} /`) && !line.endsWith(' /') ? [line.slice(status.length + 1)] : [],
        ),
  };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
