import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { test } from 'tap';

import { runApart } from './host.ts';

const needsRoot = process.getuid?.() === 0 ? false : 'mounting needs root';

test('what a program mounts ends with it, however it ends', { skip: needsRoot }, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'rs-host-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const mounting = `mount -t tmpfs none "$0" && : >"$0/mounted" && ls "$0"`;

  t.equal(await runApart('sh', ['-c', mounting, directory]), 'mounted\n', 'it sees its mount');
  t.same(readdirSync(directory), [], 'nobody else does');

  await t.rejects(runApart('sh', ['-c', `${mounting} >"$0.seen" && kill -KILL $$`, directory]), {
    code: 'image.build-failed',
  });
  t.ok(existsSync(`${directory}.seen`), 'it had mounted when it was killed');
  rmSync(`${directory}.seen`);
  t.notMatch(execFileSync('cat', ['/proc/self/mountinfo'], { encoding: 'utf8' }), directory);
});
