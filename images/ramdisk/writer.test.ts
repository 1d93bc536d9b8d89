import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';

import { MOST_CHUNK_BYTES } from '../chunk-map.ts';
import { CHUNK_BYTES } from '../zstd-frames.ts';
import type { ChunkedImage } from './chunks.fixture.ts';
import { chunkedImage, serveChunks } from './chunks.fixture.ts';
import { writerHere, writerTest as test } from './writer.fixture.ts';

const SOURCE = join(import.meta.dirname, 'write-chunks.c');

test('a strict compiler has nothing to say about the program', (t) => {
  const strict = ['-std=c11', '-O2', '-Wall', '-Wextra', '-Wshadow', '-Wconversion', '-fsyntax-only'];
  t.match(spawnSync('gcc', [...strict, SOURCE], { encoding: 'utf8' }), { status: 0, stderr: /^$/ });
  t.end();
});

test('chunks of a plan are written, and told with the digests that are asked for', async (t) => {
  const image = chunkedImage('abcde');
  const { url } = await serveChunks(t, image);
  const disk = join(t.testdir({ disk: '' }), 'disk');
  const [first = '', ...others] = lines(image);
  const ended = await writeChunks({ disk, url, plan: [`${first} sample`, ...others] });
  t.match(ended, { status: 0, said: '' });
  t.ok(readFileSync(disk).equals(image.raw));
  const done = ended.done.trim().split('\n').sort();
  t.match(done[0], /^0 4194304 [0-9a-f]{64}$/);
  t.same(done.slice(1), [1, 2, 3, 4].map((index) => `${index * CHUNK_BYTES} ${CHUNK_BYTES}`).sort());
});

test('a plan for more than there is room for is refused, and nothing is asked for', async (t) => {
  const image = chunkedImage('a');
  const { url, asked } = await serveChunks(t, image);
  const disk = join(t.testdir({ disk: 'old' }), 'disk');
  const digest = 'ab'.repeat(32);
  for (const line of [
    `0 ${CHUNK_BYTES + 512} 1000 ${digest}`,
    `0 ${CHUNK_BYTES} ${MOST_CHUNK_BYTES + 1} ${digest}`,
    `0 ${CHUNK_BYTES} -1 ${digest}`,
    `0 ${CHUNK_BYTES} 1000 ${digest.slice(1)}`,
    `0 ${CHUNK_BYTES} 1000 ../${digest.slice(3)}`,
    `0 ${CHUNK_BYTES} 1000`,
    '',
  ]) {
    t.match(await writeChunks({ disk, url, plan: [line] }), { status: 4, done: '', said: /no chunk of a plan/ }, line);
  }
  t.equal(asked.length, 0);
  const most = await writeChunks({ disk, url, plan: [`0 ${CHUNK_BYTES} ${MOST_CHUNK_BYTES} ${digest}`] });
  t.match(most, { status: 6, said: /did not arrive: .*404/ }, 'the largest chunk that there may be is asked for');
  t.equal(readFileSync(disk, 'utf8'), 'old');
});

test('a disk that takes no more is told as what it says', async (t) => {
  const image = chunkedImage('abc');
  const { url } = await serveChunks(t, image);
  const full = await writeChunks({ disk: '/dev/full', url, plan: lines(image) });
  t.match(full, { status: 7, done: '', said: /writing to \/dev\/full failed: No space left on device\n$/ });
  const none = await writeChunks({ disk: '/nowhere/disk', url, plan: lines(image) });
  t.match(none, { status: 7, done: '', said: 'writing to /nowhere/disk failed: No such file or directory\n' });
});

test('a file that says so stops it before the next chunk', async (t) => {
  const image = chunkedImage('abc');
  const { url, asked } = await serveChunks(t, image);
  const directory = t.testdir({ disk: '', stop: '' });
  const stop = join(directory, 'stop');
  const ended = await writeChunks({ disk: join(directory, 'disk'), url, plan: lines(image), stop });
  t.match(ended, { status: 5, done: '', said: /stop says to stop/ });
  t.equal(asked.length, 0);
});

function lines({ map }: ChunkedImage): string[] {
  return map.segments.flatMap((segment) =>
    segment.kind === 'chunk' ? [`${segment.rawOffset} ${segment.rawLength} ${segment.length} ${segment.sha256}`] : [],
  );
}

interface Asked {
  readonly disk: string;
  readonly url: string;
  readonly plan: readonly string[];
  readonly stop?: string;
}

async function writeChunks({ disk, url, plan, stop = '/nowhere/stop' }: Asked) {
  const program = join(await writerHere(), 'write-chunks');
  const child = spawn(program, [disk, `${url}/chunk`, '3', '0', '/nowhere/other', stop]);
  child.stdin.on('error', () => undefined); // it may have ended before it has read all
  child.stdin.end(plan.map((line) => `${line}\n`).join(''));
  const [done, said] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  return { status: child.exitCode, done, said };
}
