import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { openSync, readSync, closeSync, readFileSync, writeFileSync } from 'node:fs';
import type { RequestListener } from 'node:http';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { zstdCompressSync } from 'node:zlib';

import { test } from 'tap';
import type { Test } from 'tap';

import type { FakeRamdisk } from './deploy.fixture.ts';
import { fakeRamdisk } from './deploy.fixture.ts';

const MIB = 1024 * 1024;
const DISK_BYTES = 8 * MIB;

test('an image is written as it is, and the rest of the disk is left alone', async (t) => {
  const { ramdisk, image, order } = await prepare(t);
  order({});
  t.equal(await ramdisk.stage('image'), undefined);
  const disk = readFileSync(ramdisk.path('disk'));
  t.ok(disk.subarray(0, image.raw.length).equals(image.raw), 'the disk begins with the image');
  t.ok(disk.subarray(image.raw.length, DISK_BYTES - MIB).every((byte) => byte === 0xff));
  t.ok(
    disk.subarray(DISK_BYTES - MIB).every((byte) => byte === 0),
    'an old backup partition table is gone',
  );
  t.match(ramdisk.read('run/facts'), new RegExp(`^bytes=${image.raw.length}\nseconds=[0-9.]+\n$`));
});

test('a stream that is cut again and again goes on where it stopped', async (t) => {
  const asked: number[] = [];
  const { ramdisk, image, order } = await prepare(t, ({ compressed }) => (request, response) => {
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? 'bytes=0-')?.[1]);
    asked.push(from);
    response.writeHead(from === 0 ? 200 : 206, {
      'content-length': compressed.length - from,
      ...(from === 0 ? {} : { 'content-range': `bytes ${from}-${compressed.length - 1}/${compressed.length}` }),
    });
    response.write(compressed.subarray(from, from + 777_777), () => {
      if (compressed.length - from > 777_777) response.destroy();
      else response.end();
    });
  });
  order({});
  t.equal(await ramdisk.stage('image'), undefined);
  t.ok(diskBegins(ramdisk, image.raw));
  t.ok(asked.length > 3, `it was cut: ${asked.join(', ')}`);
  t.same(
    asked,
    [...asked].sort((a, b) => a - b),
    'nothing is fetched twice',
  );
});

test('an image with another digest leaves nothing that boots', async (t) => {
  const { ramdisk, order } = await prepare(t);
  order({ image_sha256: 'ab'.repeat(32) });
  const failure = await ramdisk.stage('image');
  t.equal(failure?.code, 'image.digest');
  t.match(failure?.reason, /ordered was (ab){32}/);
  t.ok(unbootable(ramdisk));
});

test('an image spoilt on its way is refused as not the one ordered', async (t) => {
  const { ramdisk, order } = await prepare(t, ({ compressed }) => (_request, response) => {
    const spoilt = Buffer.from(compressed);
    spoilt[spoilt.length >> 1]! ^= 0xff;
    response.end(spoilt);
  });
  order({});
  t.equal((await ramdisk.stage('image'))?.code, 'image.digest');
  t.ok(unbootable(ramdisk));
});

test('an image that stays incomplete fails after some tries and does not boot', async (t) => {
  let asked = 0;
  const { ramdisk, order } = await prepare(t, ({ compressed }) => (request, response) => {
    asked++;
    if (request.headers.range === undefined) response.end(compressed.subarray(0, 100_000));
    else response.writeHead(416).end();
  });
  order({});
  const failure = await ramdisk.stage('image');
  t.equal(failure?.code, 'boot.stage-failed');
  t.match(failure?.reason, /did not arrive.*416/);
  t.equal(asked, 9);
  t.ok(unbootable(ramdisk));
});

test('a server that answers a request for the rest with the whole is not believed', async (t) => {
  const { ramdisk, order } = await prepare(t, ({ compressed }) => (request, response) => {
    response.writeHead(200, { 'content-length': compressed.length });
    if (request.headers.range !== undefined) response.end(compressed);
    else response.write(compressed.subarray(0, 100_000), () => response.destroy());
  });
  order({});
  t.equal((await ramdisk.stage('image'))?.code, 'boot.stage-failed');
  t.ok(unbootable(ramdisk));
});

test('watching the writer outlives a writer that has not begun or is done', async (t) => {
  const ramdisk = fakeRamdisk(t);
  const tick = 'ticks=0; sleep() { ticks=$((ticks + 1)); [ "$ticks" -le 2 ]; }';
  t.equal(
    await ramdisk.shell(`${tick}; follow_writing; echo 999999999 >"$RUN/writer"; ${tick}; follow_writing; echo on`),
    'on\n',
  );
});

test('an image larger than the disk is refused before the first write', async (t) => {
  const { ramdisk, order } = await prepare(t);
  order({ image_raw_bytes: DISK_BYTES + 1 });
  const failure = await ramdisk.stage('image');
  t.equal(failure?.code, 'image.invalid');
  t.ok(
    readFileSync(ramdisk.path('disk')).every((byte) => byte === 0xff),
    'the disk is as it was',
  );
});

test('an image with more or fewer bytes than declared is refused', async (t) => {
  for (const difference of [-1, 1]) {
    const { ramdisk, image, order } = await prepare(t);
    order({ image_raw_bytes: image.raw.length + difference });
    t.equal((await ramdisk.stage('image'))?.code, 'image.invalid', `${difference} byte`);
    t.ok(unbootable(ramdisk));
  }
});

test('an order that names its image badly is refused before the first write', async (t) => {
  for (const wrong of [
    { image_url: 'file:///etc/passwd' },
    { image_url: 'http://10.0.0.1/$(reboot)' },
    { image_sha256: 'AB'.repeat(32) },
    { image_raw_bytes: '0x10' },
    { image_bytes: '-1' },
  ]) {
    const { ramdisk, order } = await prepare(t);
    order(wrong);
    t.equal((await ramdisk.stage('image'))?.code, 'boot.protocol', JSON.stringify(wrong));
    t.ok(readFileSync(ramdisk.path('disk')).every((byte) => byte === 0xff));
  }
});

interface Image {
  raw: Buffer;
  compressed: Buffer;
}

async function prepare(
  t: Test,
  serve: (image: Image) => RequestListener = (image) => (_request, response) => response.end(image.compressed),
) {
  const raw = Buffer.concat([randomBytes(2 * MIB), Buffer.alloc(MIB), randomBytes(2 * MIB + 512 * 3)]);
  const image = { raw, compressed: zstdCompressSync(raw) };
  const server = createServer(serve(image)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());

  const ramdisk = fakeRamdisk(t, { realProc: true });
  writeFileSync(ramdisk.path('disk'), Buffer.alloc(DISK_BYTES, 0xff));
  ramdisk.put('sys/block/disk/size', `${DISK_BYTES / 512}\n`);
  ramdisk.put('run/disk', `${ramdisk.path('disk')}\n`);
  const order = (changes: Record<string, string | number>) => {
    const lines = {
      verb: 'install',
      generation: 1,
      image_url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/images/x`,
      image_sha256: createHash('sha256').update(image.compressed).digest('hex'),
      image_bytes: image.compressed.length,
      image_raw_bytes: raw.length,
      ...changes,
    };
    ramdisk.put(
      'run/order',
      Object.entries(lines)
        .map(([name, value]) => `${name}=${value}\n`)
        .join(''),
    );
  };
  return { ramdisk, image, order };
}

function diskBegins(ramdisk: FakeRamdisk, raw: Buffer): boolean {
  return readFileSync(ramdisk.path('disk')).subarray(0, raw.length).equals(raw);
}

function unbootable(ramdisk: FakeRamdisk): boolean {
  const begin = Buffer.alloc(MIB, 1);
  const file = openSync(ramdisk.path('disk'), 'r');
  readSync(file, begin, 0, MIB, 0);
  closeSync(file);
  return begin.every((byte) => byte === 0);
}
