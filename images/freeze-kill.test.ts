import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

import { test } from 'tap';
import type { Test } from 'tap';

import { content, freezeProcess, misplaced, openFreezeRig } from './freeze.fixture.ts';
import { freeze } from './freeze.ts';

test('kill -9 at any moment leaves the whole image or none, and the next freeze makes it', async (t) => {
  const rig = openFreezeRig(t);
  const seeds = ['a', 'b', 'c', 'd', 'e', 'f'];
  const raw = rig.disk('raw', ...seeds.map((seed) => content(seed)));
  // The last one is killed while it publishes, or after.
  for (const lines of [1, 6]) {
    await killedAfter(t, lines, [freezeProcess, rig.directory.path, raw]);
    t.same(misplaced(rig), [], `after ${String(lines)} chunks: what has a name is whole`);
    for (const file of rig.files().filter((name) => name.startsWith('maps/'))) {
      t.match(await rig.directory.map(file.slice(5)), { map: { segments: seeds.map(() => ({ kind: 'chunk' })) } });
      t.equal(rig.chunks().length, seeds.length, 'a map is there after all its chunks');
    }
  }
  const frozen = await freeze(raw, rig.options);
  t.equal(rig.chunks().length, seeds.length);
  t.equal(frozen.map.segments.length, seeds.length);
  t.same(misplaced(rig), []);
});

async function killedAfter(t: Test, lines: number, argv: string[]): Promise<void> {
  const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  let seen = 0;
  for await (const _line of createInterface(child.stdout)) if (++seen === lines) child.kill('SIGKILL');
  t.ok(seen >= lines);
}
