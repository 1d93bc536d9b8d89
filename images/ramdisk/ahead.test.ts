import { hash } from 'node:crypto';
import { closeSync, existsSync, openSync, readFileSync, writeSync } from 'node:fs';

import type { Test } from 'tap';

import { until } from '../../lab/process/until.ts';
import { CHUNK_BYTES } from '../zstd-frames.ts';
import type { Answer, ChunkRig, ChunkedImage } from './chunks.fixture.ts';
import { begins, chunkRig, chunkedImage, isDirty, isUnbootable, openedBy } from './chunks.fixture.ts';
import { writerTest as test } from './writer.fixture.ts';

test('an order for the image that is there already asks for nothing of it', async (t) => {
  const image = chunkedImage('abc0defg');
  const rig = await waiting(t, image);
  await ahead(rig);
  t.ok(isUnbootable(rig.disk), 'until there is an order');
  const asked = rig.server.asked.length;
  t.equal(asked, image.chunks.size);
  t.equal(await rig.ramdisk.stage('image'), undefined);
  t.equal(rig.server.asked.length, asked);
  t.ok(begins(rig.disk, image.raw));
  t.match(rig.ramdisk.read('run/facts'), new RegExp(`^ahead=${String(image.raw.length - 2 * CHUNK_BYTES)}$`, 'm'));
  t.notOk(existsSync(rig.ramdisk.path('run/ahead')), 'and nothing of it serves another order');
});

test('an order that comes meanwhile ends who writes ahead, and goes on from there', async (t) => {
  const image = chunkedImage('abcdefgh0jklmn');
  const unanswered: (() => void)[] = [];
  const answer: Answer = (_request, _response, serve) => {
    if (server.asked.length <= 6 || unanswered.length > 0) serve();
    else unanswered.push(serve);
  };
  const rig = await waiting(t, image, answer);
  const { ramdisk, disk, server } = rig;
  const ended = ramdisk.shell(inTheBackground).catch(() => undefined);
  await until('a chunk to be on its way', 30_000, () => unanswered.length > 0);
  t.equal(await ramdisk.stage('image'), undefined);
  await ended;
  t.ok(begins(disk, image.raw));
  t.equal(server.asked.length, image.chunks.size + 1, 'one was asked for twice');
  t.strictSame(openedBy(ramdisk.path('run/ahead/writing')), []);
});

test('an order for another image begins anew', async (t) => {
  const [likely, ordered] = [chunkedImage('abcd'), chunkedImage('xbyz')];
  const rig = await waiting(t, likely);
  await ahead(rig);
  const other = await chunkRig(t, ordered);
  rig.ramdisk.put('run/order', other.ramdisk.read('run/order'));
  t.equal(await rig.ramdisk.stage('image'), undefined);
  t.equal(other.server.asked.length, ordered.chunks.size);
  t.ok(begins(rig.disk, ordered.raw));
  t.notMatch(rig.ramdisk.read('run/facts'), /ahead/);
});

test('an order for another disk begins anew there', async (t) => {
  const image = chunkedImage('abcd');
  const rig = await waiting(t, image);
  await ahead(rig);
  const other = await chunkRig(t, image);
  rig.ramdisk.put('run/disk', `${other.disk}\n`);
  rig.ramdisk.put(
    `sys/block/${other.disk.split('/').at(-1) ?? ''}/size`,
    `${String(readFileSync(other.disk).length / 512)}\n`,
  );
  t.equal(await rig.ramdisk.stage('image'), undefined);
  t.ok(begins(other.disk, image.raw));
});

test('a disk that is not blank at both ends waits for an order as it is', async (t) => {
  const image = chunkedImage('abcd');
  for (const place of [0, 4096, -512]) {
    const rig = await waiting(t, image);
    const file = openSync(rig.disk, 'r+');
    writeSync(file, Buffer.of(1), 0, 1, place < 0 ? readFileSync(rig.disk).length + place : place);
    closeSync(file);
    const before = hash('sha256', readFileSync(rig.disk));
    await t.rejects(ahead(rig));
    t.match(rig.ramdisk.read('run/ahead/failure'), 'is not blank');
    t.equal(hash('sha256', readFileSync(rig.disk)), before);
    t.equal(rig.server.asked.length, 0);
  }
});

test('what an order can be obeyed without is tried once: it goes on where the image went away', async (t) => {
  const image = chunkedImage('abcdefgh');
  let away = true;
  const rig = await waiting(t, image, ({ sha256 }, response, serve) => {
    if (away && sha256 === lastChunk(image)) response.writeHead(404).end();
    else serve();
  });
  await t.rejects(ahead(rig));
  t.notOk(existsSync(rig.ramdisk.path('run/failure')), 'it is no failure of the boot');
  away = false;
  t.equal(await rig.ramdisk.stage('image'), undefined);
  t.ok(begins(rig.disk, image.raw));
});

test('a wipe forgets what was written ahead', async (t) => {
  const rig = await waiting(t, chunkedImage('abcd'));
  await ahead(rig);
  await rig.ramdisk.shell(`wiped() { :; }; certify() { :; }; disks() { echo disk; }; method=zero
    echo wipe_seed=00000000000000000000000000000000 >>"$RUN/order"; stage_wipe`);
  t.notOk(existsSync(rig.ramdisk.path('run/ahead')));
});

/** A machine whose disk was wiped, and whose order to wait names the image; the order that comes is already in its place. */
async function waiting(t: Test, image: ChunkedImage, answer?: Answer): Promise<ChunkRig> {
  const rig = await chunkRig(t, image, answer === undefined ? {} : { answer });
  t.ok(isDirty(rig.disk));
  const blank = Buffer.alloc(readFileSync(rig.disk).length);
  const file = openSync(rig.disk, 'r+');
  writeSync(file, blank);
  closeSync(file);
  rig.ramdisk.put('run/ahead/disk', `${rig.disk}\n`);
  rig.ramdisk.put(
    'run/ahead/order',
    rig.ramdisk.read('run/order').replace('verb=install\ngeneration=1', 'verb=wait\ngeneration=0'),
  );
  return rig;
}

const inTheBackground = 'exec 9>"$RUN/ahead/writing"; RUN=$RUN/ahead "$0" ahead';

async function ahead({ ramdisk }: ChunkRig): Promise<void> {
  await ramdisk.shell(inTheBackground);
}

function lastChunk({ map }: ChunkedImage): string {
  const last = map.segments.at(-2);
  if (last?.kind !== 'chunk') throw new Error('the image ends otherwise');
  return last.sha256;
}
