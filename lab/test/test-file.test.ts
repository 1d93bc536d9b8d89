import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import type { Test } from 'tap';

import { isAlive } from '../process/pid.ts';
import { until } from '../process/until.ts';
import type { Outcome } from './outcome.ts';
import { runTestFile } from './test-file.ts';

test('tests are counted, not their assertions, at any depth', async (t) => {
  const outcome = await tap(t, [
    '# Subtest: on SQLite',
    '    # Subtest: claims once',
    '        ok 1 - a',
    '        ok 2 - b',
    '        1..2',
    '    ok 1 - claims once',
    '    # Subtest: claims twice',
    '        not ok 1 - first',
    '          ---',
    '          diff: |',
    '            -1',
    '            +2',
    '          ...',
    '        not ok 2 - second',
    '        1..2',
    '    not ok 2 - claims twice',
    '    1..2',
    'not ok 1 - on SQLite',
    'ok 2 - plain',
    '1..2',
  ]);
  t.equal(outcome.passed, 2);
  t.match(outcome.failures, [
    { title: 'on SQLite > claims twice', diagnostics: /first\n {2}diff:\n {4}-1\n.*\nsecond/ },
  ]);
});

test('a test that only skips is skipped, with its reason, and not passed', async (t) => {
  const inside = ['# Subtest: one', '    ok 1 - needs root # SKIP', '    1..1', 'ok 1 - one'];
  const outcome = await tap(t, [...inside, 'ok 2 - two # SKIP no qemu', 'ok 3 - three # TODO', '1..3']);
  t.match(outcome, { passed: 0, failures: [] });
  t.same(outcome.skipped, [
    { title: 'one', reason: 'needs root' },
    { title: 'two', reason: 'no qemu' },
    { title: 'three', reason: 'to do' },
  ]);
});

test('a file that skips everything says why', async (t) => {
  const outcome = await tap(t, ['1..0 # SKIP no PostgreSQL']);
  t.match(outcome, { passed: 0, failures: [], skipped: [{ title: 'all of it', reason: 'no PostgreSQL' }] });
});

test('a test that fails after all its parts passed is a failure', async (t) => {
  const outcome = await tap(t, ['# Subtest: late', '    ok 1 - fine', '    1..1', 'not ok 1 - late', '1..1']);
  t.match(outcome, { passed: 0, failures: [{ title: 'late' }] });
});

test('a file that stops without a plan, crashes or is ended by a signal has failed', async (t) => {
  t.match(await program(t, 'console.log("ok 1 - fine")'), {
    failures: [{ title: /no TAP plan/, diagnostics: 'ok 1 - fine' }],
  });
  const crash = await program(t, 'console.log("some output"); null.x');
  t.match(crash, { failures: [{ title: 'exit code 1', diagnostics: 'some output' }], output: /TypeError/ });
  t.match(await program(t, `${passing}; process.exitCode = 3`), { passed: 1, failures: [{ title: 'exit code 3' }] });
  const killed = await program(t, `${passing}; process.kill(process.pid, 'SIGKILL')`);
  t.match(killed.failures, [{ title: 'ended by SIGKILL' }]);
});

test('an error that belongs to no test fails the file', async (t) => {
  for (const [stray, told] of [
    [`Promise.reject(new Error('strayed'))`, /strayed/],
    [`setImmediate(() => { throw new Error('thrown away') })`, /thrown away/],
  ] as const) {
    const source = `
      import { test } from ${JSON.stringify(import.meta.resolve('tap'))};
      test('fine', async () => { ${stray}; await new Promise((resolve) => setTimeout(resolve, 1_000)); });`;
    const outcome = await program(t, source);
    t.not(outcome.failures.length, 0);
    t.match(outcome.output, told);
  }
});

test('a late file is ended with everything it started, even if neither heeds SIGTERM', async (t) => {
  const folder = temporary(t);
  const pids = join(folder, 'pids');
  const late = `
    import { spawn } from 'node:child_process';
    import { writeFileSync } from 'node:fs';
    process.on('SIGTERM', () => {});
    const child = spawn('sh', ['-c', 'trap "" TERM; while :; do sleep 0.1; done'], { stdio: 'inherit' });
    writeFileSync(${JSON.stringify(pids)}, [process.pid, child.pid].join());
    setTimeout(() => {}, 60_000);`;
  writeFileSync(join(folder, 'file.mjs'), late);
  const outcome = await runTestFile({ root: folder, file: 'file.mjs', withinMs: 500, graceMs: 100, env: {} });
  t.match(outcome, { passed: 0, failures: [{ title: 'not finished after 0.5 s' }] });
  const started = readFileSync(pids, 'utf8').split(',').map(Number);
  t.equal(started.length, 2);
  await until('both are gone', 5_000, () => !started.some(isAlive));
});

test('what a file has to show is in its outcome, whether it passed or not', async (t) => {
  const show = `
    import { appendFileSync } from 'node:fs';
    for (const line of ['a matrix', 'of two lines']) appendFileSync(process.env.RACKSTART_TEST_REPORT, line + '\\n');`;
  t.match(await program(t, `${show}${passing}`), { passed: 1, report: 'a matrix\nof two lines' });
  t.match(await program(t, `${show}process.exitCode = 3`), { passed: 0, report: /a matrix/ });
  t.notOk('report' in (await program(t, passing)));
});

test('what a file forgets to end does not outlive it', async (t) => {
  const folder = temporary(t);
  const pid = join(folder, 'pid');
  const forgetful = `
    import { spawn } from 'node:child_process';
    import { writeFileSync } from 'node:fs';
    const child = spawn('sleep', ['60'], { stdio: 'inherit' });
    child.unref();
    writeFileSync(${JSON.stringify(pid)}, String(child.pid));
    ${passing}`;
  writeFileSync(join(folder, 'file.mjs'), forgetful);
  const outcome = await runTestFile({ root: folder, file: 'file.mjs', withinMs: 30_000, env: {} });
  t.match(outcome, { passed: 1, failures: [] });
  await until('it is gone', 5_000, () => !isAlive(Number(readFileSync(pid, 'utf8'))));
});

test('a file in the background gives way to everything else', async (t) => {
  const folder = temporary(t);
  const source = `
    import { existsSync, readFileSync } from 'node:fs';
    import { getPriority } from 'node:os';
    const session = '/proc/self/autogroup';
    const isLast = getPriority() === 19 && (!existsSync(session) || readFileSync(session, 'utf8').endsWith('nice 19\\n'));
    console.log(isLast ? 'ok 1' : 'not ok 1');
    console.log('1..1');`;
  writeFileSync(join(folder, 'file.mjs'), source);
  const options = { root: folder, file: 'file.mjs', withinMs: 30_000, env: {} };
  t.match(await runTestFile({ ...options, inBackground: true }), { passed: 1, failures: [] });
  t.match(await runTestFile(options), { passed: 0, failures: [{}] });
});

const passing = 'console.log("ok 1 - fine\\n1..1")';

function tap(t: Test, lines: readonly string[]): Promise<Outcome> {
  return program(t, `console.log(${JSON.stringify(['TAP version 14', ...lines].join('\n'))})`);
}

function program(t: Test, source: string): Promise<Outcome> {
  const root = temporary(t);
  writeFileSync(join(root, 'file.mjs'), source);
  return runTestFile({ root, file: 'file.mjs', withinMs: 30_000, env: {} });
}

function temporary(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'rs-test-file-'));
  t.teardown(() => rmSync(path, { recursive: true }));
  return path;
}
