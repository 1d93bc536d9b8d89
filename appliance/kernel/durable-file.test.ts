import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { test } from 'tap';

import { writeOnce } from './durable-file.ts';

test('a file is there with its content and mode, and nothing else is left', async (t) => {
  const directory = t.testdir();
  await writeOnce(join(directory, 'key'), 'secret', 0o600);
  t.equal(readFileSync(join(directory, 'key'), 'utf8'), 'secret');
  t.equal(statSync(join(directory, 'key')).mode & 0o777, 0o600);
  t.same(readdirSync(directory), ['key']);
});

test('a file that is there stays as it is', async (t) => {
  const directory = t.testdir({ key: 'first' });
  await t.rejects(writeOnce(join(directory, 'key'), 'second', 0o600), { code: 'EEXIST' });
  t.equal(readFileSync(join(directory, 'key'), 'utf8'), 'first');
  t.same(readdirSync(directory), ['key']);
});

test('a write that breaks off leaves no half file, and the next one succeeds', async (t) => {
  const path = join(t.testdir(), 'key');
  await t.rejects(writeOnce(path, { not: 'bytes' } as never, 0o600));
  t.notOk(existsSync(path));
  writeFileSync(`${path}.new`, 'half');
  await writeOnce(path, 'whole', 0o600);
  t.equal(readFileSync(path, 'utf8'), 'whole');
});
