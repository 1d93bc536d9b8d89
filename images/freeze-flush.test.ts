import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

import { test } from 'tap';

import { content, freezeProcess, openFreezeRig } from './freeze.fixture.ts';

const skip = spawnSync('strace', ['--version']).error !== undefined && 'no strace';

test('each chunk is on the disk before it has its name, all names before the map has its own', { skip }, (t) => {
  const rig = openFreezeRig(t);
  const raw = rig.disk('raw', ...['a', 'b', 'c', 'b', 'd'].map((seed) => content(seed)));
  const calls = join(rig.root, 'calls');
  const trace = ['-f', '-y', '-qq', '-e', 'trace=fsync,rename', '-o', calls];
  // Node names files, too, when it keeps what it has compiled.
  const env = { ...process.env, NODE_COMPILE_CACHE: undefined };
  const { status } = spawnSync('strace', [...trace, process.execPath, freezeProcess, rig.directory.path, raw], { env });
  t.equal(status, 0);

  const flushed = new Set<string>();
  const named: string[] = [];
  for (const line of readFileSync(calls, 'utf8').split('\n')) {
    const [, file] = /fsync\(\d+<(.*)>/.exec(line) ?? [];
    // The map is linked to its name in the staging directory when it is on the disk.
    if (file !== undefined) flushed.add(file.replace(/\.new$/, ''));
    const [, from, to] = /rename\("(.*)", "(.*)"/.exec(line) ?? [];
    if (from === undefined || to === undefined) continue;
    t.ok(flushed.has(from), `${basename(to)} was flushed`);
    const isMap = dirname(to) === rig.directory.maps;
    if (isMap)
      t.same(
        [...new Set(named.map(dirname))].filter((shelf) => !flushed.has(shelf)),
        [],
        'so were the names',
      );
    named.push(to);
  }
  t.same(named.map((path) => path.slice(rig.directory.path.length + 1)).sort(), rig.files());
  t.end();
});
