import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

import { CHUNK_BYTES } from '../zstd-frames.ts';
import { DIRT, begins, chunkRig, chunkedImage, isUnbootable, nameOf, openedBy, partial } from './chunks.fixture.ts';
import { writerTest as test } from './writer.fixture.ts';

const MIB = 1024 * 1024;

test('a chunk that was altered on its way is fetched again', async (t) => {
  const image = chunkedImage('abcd');
  for (const alter of [flipped, shortened, emptied]) {
    let altered = 0;
    const { ramdisk, disk, server } = await chunkRig(t, image, {
      answer: ({ sha256, body }, response, serve) => {
        if (sha256 === nameOf(image.map, 2) && altered++ === 0) response.end(alter(body));
        else serve();
      },
    });
    t.equal(await ramdisk.stage('image'), undefined, alter.name);
    t.ok(begins(disk, image.raw), alter.name);
    t.equal(server.asked.length, 5, 'the others were sent once');
  }
});

test('a chunk that comes altered each time fails the attempt, and nothing boots', async (t) => {
  const image = chunkedImage('abc');
  for (const place of [0, 1, 2]) {
    const { ramdisk, disk, server } = await chunkRig(t, image, {
      answer: ({ sha256, body }, response, serve) => {
        if (sha256 === nameOf(image.map, place)) response.end(flipped(body));
        else serve();
      },
    });
    const reason = new RegExp(`at byte ${place * CHUNK_BYTES} came 3 times with another content`);
    t.match(await ramdisk.stage('image'), { code: 'image.altered', reason });
    t.equal(server.asked.filter(({ sha256 }) => sha256 === nameOf(image.map, place)).length, 3);
    t.ok(isUnbootable(disk));
    t.equal(readFileSync(disk)[place * CHUNK_BYTES + 2 * MIB], DIRT, 'nothing of it was written');
  }
});

test('a server that sends without end fills no memory', async (t) => {
  const image = chunkedImage('abc');
  let most = 0;
  const { ramdisk, disk } = await chunkRig(t, image, {
    answer: (_request, response) => {
      const more = () => {
        most = Math.max(
          most,
          ...openedBy(ramdisk.path('run/writing')).map(memoryOf),
          bytesIn(ramdisk.path('run/chunks')),
        );
        while (!response.destroyed && response.write(Buffer.alloc(MIB, 'x')));
      };
      response.on('drain', more);
      more();
    },
  });
  t.match(await ramdisk.stage('image'), { code: 'image.unreachable', reason: /did not arrive.*ailure writing/ });
  t.ok(most > 0 && most <= 64 * MIB, `${most} bytes at most`);
  t.ok(isUnbootable(disk));
});

test('a chunk that is not there fails after some tries', async (t) => {
  const image = chunkedImage('abc');
  const { ramdisk, disk, server } = await chunkRig(t, image, {
    answer: (_request, response) => response.writeHead(404).end(),
  });
  t.match(await ramdisk.stage('image'), { code: 'image.unreachable', reason: /did not arrive.*404/ });
  t.equal(server.asked.length, 9);
  t.ok(isUnbootable(disk));
});

test('a server that is killed twice in mid-stream sends nothing twice but the chunk it was at', async (t) => {
  const image = chunkedImage('abcdefghijklmn');
  let begun = 0;
  let kills = 0;
  const { ramdisk, disk, server } = await chunkRig(t, image, {
    retryPause: 0.02,
    answer: ({ from, body }, response, serve) => {
      if (from > 0 || ![4, 9].includes(++begun)) {
        serve();
        return;
      }
      kills++;
      response.writeHead(200, { 'content-length': body.length });
      response.write(body.subarray(0, body.length >> 1), () => server.restart());
    },
  });
  t.equal(await ramdisk.stage('image'), undefined);
  t.equal(kills, 2);
  t.ok(begins(disk, image.raw));
  const whole = server.asked.filter(({ from }) => from === 0).length;
  t.ok(whole <= image.chunks.size + 2, `${whole - image.chunks.size} chunks were sent twice`);
});

test('a chunk that is cut again and again goes on where it stopped', async (t) => {
  const image = chunkedImage('abc');
  const { ramdisk, disk, server } = await chunkRig(t, image, {
    answer: ({ from, body }, response) => {
      response.writeHead(from === 0 ? 200 : 206, partial(body, from));
      const piece = body.subarray(from, from + 150_000);
      response.write(piece, () => (from + piece.length < body.length ? response.destroy() : response.end()));
    },
  });
  t.equal(await ramdisk.stage('image'), undefined);
  t.ok(begins(disk, image.raw));
  t.equal(server.asked.filter(({ from }) => from === 0).length, 3);
  t.ok(server.asked.length > 6, `it was cut: ${server.asked.length} requests`);
});

test('a server that answers a request for the rest with the whole is asked for the whole', async (t) => {
  const image = chunkedImage('abc');
  let cut = false;
  const { ramdisk, disk } = await chunkRig(t, image, {
    answer: ({ sha256, body }, response) => {
      if (cut || sha256 !== nameOf(image.map, 1)) {
        response.writeHead(200, { 'content-length': body.length }).end(body);
        return;
      }
      cut = true;
      response.writeHead(200, { 'content-length': body.length });
      response.write(body.subarray(0, 50_000), () => response.destroy());
    },
  });
  t.equal(await ramdisk.stage('image'), undefined);
  t.ok(begins(disk, image.raw));
});

function flipped(body: Buffer): Buffer {
  const other = Buffer.from(body);
  other[body.length >> 1]! ^= 0x10;
  return other;
}

function shortened(body: Buffer): Buffer {
  return body.subarray(0, -1);
}

function emptied(): Buffer {
  return Buffer.alloc(0);
}

/** Resident, of a process that may just have ended. */
function memoryOf(pid: string): number {
  const status = existsSync(`/proc/${pid}/status`) ? readFileSync(`/proc/${pid}/status`, 'utf8') : '';
  return 1024 * Number(/^RssAnon:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0);
}

function bytesIn(directory: string): number {
  return readdirSync(directory)
    .map((name) => statSync(join(directory, name), { throwIfNoEntry: false })?.size ?? 0)
    .reduce((sum, size) => sum + size, 0);
}
