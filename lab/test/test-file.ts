import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { constants, setPriority, tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';

import { onAbruptEnd } from '../process/abrupt-end.ts';
import { signalPid } from '../process/pid.ts';
import type { Failure, Outcome } from './outcome.ts';
import { REPORT_FILE } from './report-file.ts';
import { tallyTap } from './tap-tally.ts';

export interface TestFileOptions {
  root: string;
  /** Relative to `root`. */
  file: string;
  withinMs: number;
  /** Added to this process's own environment. */
  env: Readonly<Record<string, string>>;
  /** Whether it gives way to whatever else runs: for what only computes. */
  inBackground?: boolean;
  /** Between asking a late file to end and killing it; 5,000 when left out. */
  graceMs?: number;
}

const PLAIN_DOMAINS = import.meta.resolve('./plain-domains.ts');

/**
 * Runs one test file under this Node. That it crashes, is late or writes no plan is a failure beside those it tells. What
 * it started and forgot is killed with it, unless that left its process group.
 */
export async function runTestFile({
  root,
  file,
  withinMs,
  env,
  inBackground = false,
  graceMs = 5_000,
}: TestFileOptions): Promise<Outcome> {
  const reports = mkdtempSync(join(tmpdir(), 'rs-report-'));
  const shown = join(reports, 'report.txt');
  const child = spawn(process.execPath, ['--import', PLAIN_DOMAINS, file], {
    cwd: root,
    // tap's own limit, 30 s in all, would come first.
    env: { ...process.env, TAP_TIMEOUT: String(Math.ceil(withinMs / 1_000) + 1), ...env, [REPORT_FILE]: shown },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true, // leads a process group
  });
  const group = -child.pid!;
  if (inBackground) giveWay(child.pid!);
  const cancel = onAbruptEnd(() => signalPid(group, 'SIGTERM'));
  const output = lastOf(child.stdout);
  const complaints = lastOf(child.stderr);

  let late = false;
  const deadline = setTimeout(() => {
    late = true;
    signalPid(group, 'SIGTERM');
  }, withinMs);
  const lastResort = setTimeout(() => signalPid(group, 'SIGKILL'), withinMs + graceMs);
  const verdict = new Promise<string | undefined>((resolve) => {
    child.once('exit', (code, signal) => {
      signalPid(group, 'SIGKILL');
      if (late) resolve(`not finished after ${withinMs / 1_000} s`);
      else if (signal !== null) resolve(`ended by ${signal}`);
      else resolve(code === 0 ? undefined : `exit code ${code}`);
    });
  });

  const tally = await tallyTap(child.stdout);
  const ending = await verdict;
  clearTimeout(deadline);
  clearTimeout(lastResort);
  cancel();

  const failures: Failure[] = [...tally.failures];
  const { planned } = tally;
  // With a plan and a failed test, a non-zero exit code is only tap's way of saying so.
  if (ending !== undefined && !(planned && failures.length > 0 && ending.startsWith('exit code'))) {
    failures.push({ title: ending, diagnostics: planned ? '' : output() });
  } else if (!planned) {
    failures.push({ title: 'no TAP plan (1..N) in its output', diagnostics: output() });
  }
  const report = existsSync(shown) ? readFileSync(shown, 'utf8').trimEnd() : '';
  rmSync(reports, { recursive: true, force: true });
  const outcome = { passed: tally.passed, failures, skipped: tally.skipped, output: complaints() };
  return report === '' ? outcome : { ...outcome, report };
}

/**
 * Puts a process that leads a session behind all others. A nice value counts within a session only where the kernel shares the
 * processor out by sessions, which have one of their own (sched(7), autogroup): without it a campaign took as much as a whole machine.
 */
function giveWay(pid: number): void {
  setPriority(pid, constants.priority.PRIORITY_LOW);
  const ofSession = `/proc/${pid}/autogroup`;
  if (existsSync(ofSession)) writeFileSync(ofSession, String(constants.priority.PRIORITY_LOW));
}

/** Reads a stream and keeps its last 20,000 characters. */
function lastOf(stream: Readable): () => string {
  let kept = '';
  stream.setEncoding('utf8').on('data', (text: string) => {
    kept = (kept + text).slice(-20_000);
  });
  return () => kept.trim();
}
