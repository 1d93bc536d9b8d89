import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';

import { test } from 'tap';
import type { Test } from 'tap';

test('a stage that is killed is started again, and the life goes on behind it', async (t) => {
  const { starts, reports, console } = await live(t, { image: 'kill_first 2' });
  t.same(starts, ['network', 'claim', 'disk', 'image', 'image', 'image', 'grow', 'inject', 'kexec']);
  t.same(reports('image'), ['started', 'done'], 'the appliance is told of one stage');
  t.match(console, /image was killed by signal 9: start 3 of 3/);
});

test('a stage whose program is killed counts as killed; one that fails is not started again', async (t) => {
  const child = await live(t, { image: `sh -c 'kill -9 $$'` });
  t.equal(child.starts.filter((stage) => stage === 'image').length, 3);
  const failed = await live(t, { image: 'fail image.invalid no' });
  t.equal(failed.starts.filter((stage) => stage === 'image').length, 1);
  t.same(failed.reports('image'), ['started', 'failed code=image.invalid reason=no']);
  const broken = await live(t, { image: 'echo of no use >&2; false' });
  t.same(broken.reports('image'), ['started', 'failed code=boot.stage-failed reason=of no use']);
  t.equal(broken.starts.filter((stage) => stage === 'image').length, 1);
});

test('a stage that is killed each time fails, with the signal as its reason, and nothing comes after it', async (t) => {
  const { starts, reports } = await live(t, { image: 'kill_first 9' });
  t.same(starts, ['network', 'claim', 'disk', 'image', 'image', 'image']);
  t.same(reports('image'), ['started', 'failed code=boot.stage-failed reason=it was killed by signal 9']);
});

test('a stage that must not be done twice is not', async (t) => {
  for (const stage of ['claim', 'inject']) {
    const { starts, reports } = await live(t, { [stage]: 'kill_first 1' });
    t.equal(starts.filter((each) => each === stage).length, 1, stage);
    t.match(reports(stage).at(-1), /^failed code=boot.stage-failed reason=it was killed by signal 9/);
  }
});

test('a stage that is killed when the appliance has ended this boot stays so', async (t) => {
  const { starts } = await live(t, { image: ': >"$RUN/cut-off"; kill_first 1' });
  t.same(starts.at(-1), 'image');
  t.equal(starts.filter((stage) => stage === 'image').length, 1);
});

/** The whole script, with stages that are these commands (or none), and an appliance that has one order to install. */
async function live(t: Test, stages: Readonly<Record<string, string>>) {
  const home = mkdtempSync(join(tmpdir(), 'rs-deploy-'));
  t.teardown(() => rmSync(home, { recursive: true, force: true }));
  const run = join(home, 'run');
  const deploy = join(import.meta.dirname, 'deploy');
  symlinkSync(deploy, join(home, 'deploy'));
  const [, parts = ''] = /^for part in (.*); do$/m.exec(readFileSync(deploy, 'utf8')) ?? [];
  for (const part of parts.split(' ')) writeFileSync(join(home, `${part}.sh`), '');
  const all = ['network', 'claim', 'disk', 'image', 'grow', 'inject', 'kexec', 'wipe', 'inspect'];
  const functions = all.map((name) => `stage_${name}() { echo ${name} >>"$RUN/starts"; ${stages[name] ?? ':'}; }`);
  writeFileSync(join(home, 'protocol.sh'), `${appliance()}\n${functions.join('\n')}\n`);
  writeFileSync(join(home, 'uptime'), '12.34 10.00\n');
  writeFileSync(join(home, 'poweroff'), '#!/bin/sh\nkill -9 $PPID\n');
  chmodSync(join(home, 'poweroff'), 0o755);
  const env = { ...process.env, PATH: `${home}:${process.env['PATH'] ?? ''}`, RUN: run, PROC: home };
  const life = spawn('sh', [join(home, 'deploy')], { env, stdio: ['ignore', 'pipe', 'inherit'] });
  const console = await text(life.stdout);
  const lines = (file: string) => readFileSync(join(run, file), 'utf8').split('\n').filter(Boolean);
  const reports = (stage: string) =>
    lines('reports').flatMap((line) => (line.startsWith(`${stage} `) ? [line.slice(stage.length + 1)] : []));
  return { console, starts: lines('starts'), reports };
}

/** `kill_first N`: the first N stages that come to it are killed. */
function appliance(): string {
  return `
    has_order() { :; }
    cut_off() { [ -e "$RUN/cut-off" ]; }
    field() { if [ "$1" = verb ]; then echo install; else sed -n "s/^$1=//p" "$2"; fi; }
    next_order() { : >"$RUN/cut-off"; }
    report() { echo "$1 $2 $(tr '\\n' ' ' <"$RUN/facts")" | sed 's/ *$//' >>"$RUN/reports"; }
    tell() { :; }
    tell_meanwhile() { :; }
    write_ahead() { :; }
    send_log() { :; }
    start_watchdog() { :; }
    stop_watchdog() { :; }
    kill_first() {
      echo >>"$RUN/kills"
      [ "$(wc -l <"$RUN/kills")" -gt "$1" ] || kill -9 $$
    }`;
}
