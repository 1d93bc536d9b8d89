import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { truncateSync } from 'node:fs';
import { connect } from 'node:net';

import { test } from 'tap';
import type { Test } from 'tap';

import { addImage, chunksIn } from '../../images/chunks.fixture.ts';
import { CHUNK_BYTES } from '../../images/zstd-frames.ts';
import { ask, curl } from './ask.fixture.ts';
import type { Rig } from './server.fixture.ts';
import { startRig } from './server.fixture.ts';

const large = randomBytes(1_500_000);
const small = randomBytes(1000);

async function start(t: Test): Promise<Rig & ReturnType<typeof addImage> & { chunk: string; paths: string[] }> {
  const rig = await startRig(t);
  const image = addImage(chunksIn(rig.frozen), [large, 3 * CHUNK_BYTES, small]);
  const digests = image.map.segments.flatMap((segment) => ('sha256' in segment ? [segment.sha256] : []));
  const paths = digests.map((sha256) => rig.frozen.chunkFile(sha256));
  return { ...rig, ...image, chunk: `${rig.http}/chunk/${digests[0]!}`, paths };
}

test('map, chunk and whole file of an image are served for ever, by digest', async (t) => {
  const { http, digest, text, whole, chunk, seen, names } = await start(t);
  const things: readonly [string, Buffer, string][] = [
    [`${http}/image/${digest}/map`, Buffer.from(text), digest],
    [`${http}/image/${digest}/image.zst`, whole, digest],
    [chunk, large, chunk.slice(-64)],
  ];
  for (const [url, content, tag] of things) {
    const answer = await ask(url);
    t.equal(answer.status, 200);
    t.ok(answer.bytes.equals(content), url);
    const headers = {
      etag: `"${tag}"`,
      'content-length': String(content.length),
      'cache-control': 'public, max-age=31536000, immutable',
      'accept-ranges': 'bytes',
    };
    t.match(answer.headers, headers);
    const head = await ask(url, { method: 'HEAD' });
    t.match(head.headers, headers);
    t.equal(head.bytes.length, 0);
    for (const known of [`"${tag}"`, `"other", W/"${tag}"`, '*']) {
      const again = await ask(url, { headers: { 'if-none-match': known } });
      t.equal(again.status, 304, known);
      t.match(again.headers, { etag: `"${tag}"`, 'cache-control': /immutable/ });
      t.equal(again.bytes.length, 0);
    }
    const part = await ask(url, { headers: { range: 'bytes=100-299', 'if-range': `"${tag}"` } });
    t.equal(part.status, 206);
    t.equal(part.headers['content-range'], `bytes 100-299/${String(content.length)}`);
    t.ok(part.bytes.equals(content.subarray(100, 300)));
    const changed = await ask(url, { headers: { range: 'bytes=100-299', 'if-range': '"other"' } });
    t.equal(changed.bytes.length, content.length, 'of another file: all of it');
    t.equal((await ask(url, { headers: { range: `bytes=${String(content.length)}-` } })).status, 416);
  }
  t.match(await seen('image-map'), { entry: { detail: { status: 200, bytes: text.length } } });
  t.notOk(
    names().some((name) => name.includes('chunk')),
    'hundreds of chunks are not told of one by one',
  );
});

test('a chunk has the same head, whichever way its answer takes', async (t) => {
  const { chunk } = await start(t);
  const [first, other] = [await ask(chunk), await ask(chunk, { headers: { range: 'a range of another unit' } })];
  t.same({ ...other.headers, date: '' }, { ...first.headers, date: '' });
  t.ok(other.bytes.equals(first.bytes));
});

test('curl goes on with a chunk where it was cut', async (t) => {
  const { chunk } = await start(t);
  const rest = await curl('--continue-at', '700000', chunk);
  t.ok(rest.equals(large.subarray(700_000)));
});

test('what is not stored, and what is no digest, is not there', async (t) => {
  const { http, digest } = await start(t);
  for (const [path, status] of [
    [`/image/${'0'.repeat(64)}/map`, 404],
    [`/image/${'0'.repeat(64)}/image.zst`, 404],
    [`/chunk/${'0'.repeat(64)}`, 404],
    [`/chunk/${digest}`, 404],
    [`/image/${digest}/other`, 404],
    ['/chunk/..%2fmaps', 400],
    [`/chunk/${digest.toUpperCase()}`, 400],
    ['/image/../../etc/passwd/map', 404],
  ] as const) {
    const answer = await ask(http + path);
    t.equal(answer.status, status, path);
    t.equal(answer.headers['cache-control'], 'no-store', 'it may come');
  }
});

test('a chunk that the disk has spoiled is refused, and an image with it is cut instead of wrong', async (t) => {
  const { http, digest, chunk, paths, whole, logged, frozen } = await start(t);
  const image = `${http}/image/${digest}/image.zst`;
  // More in front of it than is given to the kernel at once.
  const longer = addImage(chunksIn(frozen), [large, large, large, small]);
  truncateSync(paths[1]!, 10);
  await t.rejects(ask(`${http}/image/${longer.digest}/image.zst`), { code: 'ECONNRESET' });
  t.equal(logged.filter((line) => line.includes('cannot be sent')).length, 1);
  truncateSync(paths[0]!, 1000);
  for (const url of [chunk, image]) {
    // The image's first bytes are in memory already.
    const answer = await ask(url, { headers: { range: 'bytes=0-0' } });
    t.equal(answer.status, 206, 'from memory');
  }
  const sound = await ask(image, { headers: { range: 'bytes=-50' } });
  t.ok(sound.bytes.equals(whole.subarray(-50)), 'what does not need it is served');
});

test('a chunk that was spoiled before anybody asked for it has an error for an answer', async (t) => {
  const { chunk, paths } = await start(t);
  truncateSync(paths[0]!, 1000);
  const answer = await ask(chunk);
  t.equal(answer.status, 500);
  t.match(JSON.parse(answer.text), { error: { code: 'image.damaged' } });
});

test('readers that stall hold nobody up', async (t) => {
  const { http, ports, digest, whole } = await start(t);
  const stalled = Array.from({ length: 30 }, () => connect(ports.http, '127.0.0.1').pause());
  t.teardown(() => stalled.forEach((socket) => socket.destroy()));
  for (const socket of stalled) socket.write(`GET /image/${digest}/image.zst HTTP/1.1\r\nHost: x\r\n\r\n`.repeat(9));
  await Promise.all(stalled.map((socket) => once(socket, 'readable')));
  t.ok((await ask(`${http}/image/${digest}/image.zst`)).bytes.equals(whole));
  t.equal((await ask(`${http}/ramdisk/vmlinuz`)).text, 'kernel');
});
