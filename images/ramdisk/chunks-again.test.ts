import { hash } from 'node:crypto';

import { until } from '../../lab/process/until.ts';
import { formatChunkMap } from '../chunk-map.ts';
import { CHUNK_BYTES } from '../zstd-frames.ts';
import type { Answer, ChunkRig } from './chunks.fixture.ts';
import { begins, chunkRig, chunkedImage, isUnbootable, openedBy } from './chunks.fixture.ts';
import { writerTest as test } from './writer.fixture.ts';

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
  ramdisk.put('run/chunks/plan-done', `${CHUNK_BYTES} ${CHUNK_BYTES}\n${2 * CHUNK_BYTES} ${CHUNK_BYTES}\n`);
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
