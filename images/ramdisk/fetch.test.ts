import { hash } from 'node:crypto';
import { readFileSync, readdirSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';

import { test } from 'tap';

import { until } from '../../lab/process/until.ts';
import { MOST_CHUNK_BYTES, formatChunkMap } from '../chunk-map.ts';
import { CHUNK_BYTES } from '../zstd-frames.ts';
import type { Answer, ChunkRig } from './chunks.fixture.ts';
import { DIRT, begins, chunkRig, chunkedImage, isUnbootable, nameOf, partial } from './chunks.fixture.ts';

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
        most = Math.max(most, bytesIn(ramdisk.path('run/chunks/chunk')));
        while (!response.destroyed && response.write(Buffer.alloc(MIB, 'x')));
      };
      response.on('drain', more);
      more();
    },
  });
  t.match(await ramdisk.stage('image'), { code: 'boot.stage-failed', reason: /did not arrive.*ailure writing/ });
  t.ok(most > 0 && most <= 8 * MOST_CHUNK_BYTES, `${most} bytes at most`);
  t.ok(isUnbootable(disk));
});

test('a chunk that is not there fails after some tries', async (t) => {
  const image = chunkedImage('abc');
  const { ramdisk, disk, server } = await chunkRig(t, image, {
    answer: (_request, response) => response.writeHead(404).end(),
  });
  t.match(await ramdisk.stage('image'), { code: 'boot.stage-failed', reason: /did not arrive.*404/ });
  t.equal(server.asked.length, 9);
  t.ok(isUnbootable(disk));
});

test('a server that is killed twice in mid-stream sends nothing twice but the chunk it was at', async (t) => {
  const image = chunkedImage('abcdefghijklmn');
  let kills = 0;
  const { ramdisk, disk, server } = await chunkRig(t, image, {
    answer: ({ from, body }, response, serve) => {
      if (from > 0 || ![4, 9].includes(server.asked.length)) {
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

test('a stage that is killed goes on at its next start, and its writers are ended first', async (t) => {
  const image = chunkedImage('abcdefgh0jklmn');
  const held: (() => void)[] = [];
  let kill: (() => void) | undefined;
  const answer: Answer = ({ from }, _response, serve) => {
    if (kill === undefined || server.asked.length < 7 || from > 0) {
      serve();
      return;
    }
    held.push(serve);
    if (held.length === 1) kill();
  };
  const { ramdisk, disk, server } = await chunkRig(t, image, { answer });
  await ramdisk.stage('image', (shell) => (kill = () => shell.kill('SIGKILL')));
  t.ok(isUnbootable(disk));
  kill = undefined;
  const before = server.asked.length;
  t.equal(await ramdisk.stage('image'), undefined);
  // Whoever counted the bytes may still be asleep.
  await until('nobody to write', 5_000, () => openedBy(ramdisk.path('run/writing')).length === 0);
  for (const serve of held) serve();
  t.ok(begins(disk, image.raw));
  const again = server.asked.length - image.chunks.size;
  t.ok(again <= held.length, `${before} requests before, ${again} chunks asked for again, ${held.length} on their way`);
});

test('another order begins anew, whatever an earlier one has left', async (t) => {
  const image = chunkedImage('abcd');
  const { ramdisk, disk, server, order } = await chunkRig(t, image);
  ramdisk.put('run/chunks/of', `1 ${hash('sha256', formatChunkMap(image.map))} ${disk}\n`);
  ramdisk.put('run/chunks/done', `${CHUNK_BYTES} ${2 * CHUNK_BYTES}\n`);
  order({ generation: 2 });
  t.equal(await ramdisk.stage('image'), undefined);
  t.equal(server.asked.length, 4);
  t.ok(begins(disk, image.raw));
});

test('an appliance that ends this boot stops all writers', async (t) => {
  const image = chunkedImage('abcdefghijklmnopqrstuvwx');
  const rig: ChunkRig = await chunkRig(t, image, {
    answer: (_request, _response, serve) => {
      rig.ramdisk.put('run/cut-off', '');
      serve();
    },
  });
  t.match(await rig.ramdisk.stage('image'), { code: 'boot.stale' });
  t.ok(isUnbootable(rig.disk));
  t.ok(rig.server.asked.length < image.chunks.size);
});

/** Processes that have a file open. */
function openedBy(path: string): string[] {
  return readdirSync('/proc').filter((pid) => {
    try {
      return readdirSync(`/proc/${pid}/fd`).some((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`) === path);
    } catch {
      return false; // no process, or one that has just ended
    }
  });
}

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

function bytesIn(directory: string): number {
  return readdirSync(directory)
    .map((name) => statSync(join(directory, name), { throwIfNoEntry: false })?.size ?? 0)
    .reduce((sum, size) => sum + size, 0);
}
