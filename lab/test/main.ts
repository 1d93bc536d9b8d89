/**
 * The test run: `node lab/test/main.ts [--fast] [FILTER]`. Checks and test files go three at a time, then two by two the storms
 * of simulated fleets and of sagas (`*.storm.ts`), then the machine flows one after another, beside them the campaigns of faults and
 * of hostile input (`*.campaign.ts`, `lab/fuzz/*.fuzz.ts`). `--fast` leaves all but tests and hostile input out and feeds 5,000
 * in place of 200,000; a FILTER (part of a path) runs only matching files, without checks.
 */
import { chmodSync, existsSync, mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { checks } from './checks.ts';
import { onAbruptEnd } from '../process/abrupt-end.ts';
import { faultCampaigns, fuzzFiles, machineFlows, storms, testFiles } from './files.ts';
import type { Job, Outcome } from './outcome.ts';
import { postgresMissing, startPostgres } from './postgres.ts';
import { isGood, line, summary } from './report.ts';
import type { Finished } from './report.ts';
import { runTestFile } from './test-file.ts';

const root = join(import.meta.dirname, '../..');
const FILE_MS = 60_000;
/** A campaign takes 10 to 160 s of processor time, and gets what machine flows leave. */
const CAMPAIGN_MS = 10 * 60_000;
/** The longest uses 360 s of processor time: 3 min on two cores of its own, 6 beside another storm, and twice that on a lesser host. */
const STORM_MS = 12 * 60_000;
/** The longest takes 5 min on two cores of its own. */
const FLOW_MS = 8 * 60_000;
/** They take 15 min on two cores of their own. */
const ALL_FLOWS_MS = 24 * 60_000;
/** What a temporary directory in memory must have free. */
const ROOM = 4 * 1024 ** 3;

process.exitCode = await main();

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({ options: { fast: { type: 'boolean' } }, allowPositionals: true });
  const filter = positionals[0];
  const wanted = (file: string) => filter === undefined || file.includes(filter);
  const files = testFiles(root).filter(wanted);
  const inputs = fuzzFiles(root).filter(wanted);
  const slow = [storms, machineFlows, faultCampaigns].map((list) => list(root).filter(wanted));
  const [fleets = [], flows = [], faults = []] = values.fast === true ? [] : slow;

  const started = performance.now();
  const disk = tmpdir();
  const scratch = memoryDirectory();
  if (scratch !== undefined) {
    process.env.TMPDIR = scratch;
    // Some 1,000 processes load the same files: the first to end leaves them compiled for those after it.
    process.env.NODE_COMPILE_CACHE = join(scratch, 'compiled');
  }
  const postgres = files.length > 0 && postgresMissing() === undefined ? await startPostgres() : undefined;
  const env: Record<string, string> = postgres === undefined ? {} : { RACKSTART_TEST_POSTGRES: postgres.url };
  const fuzz: Record<string, string> = values.fast === true ? { RACKSTART_FUZZ_INPUTS: '5000' } : {};
  const tests = [...(filter === undefined ? checks(root) : []), ...files.map((file) => fileJob(file, FILE_MS, env))];
  const storming = fleets.map((file) => fileJob(file, STORM_MS, {}));
  const background = [...faults, ...inputs].map((file) => fileJob(file, CAMPAIGN_MS, fuzz, { inBackground: true }));
  try {
    // A test waits a third of its time, for databases and for processes that it starts.
    const finished = await runJobs(tests, 3);
    finished.push(...(await runJobs(storming, 2)));
    // Machine flows take 1.3 of two processors: campaigns, which wait for nothing, take the rest.
    const beside = await Promise.all([runFlows(flows, { TMPDIR: disk }), runJobs(background, 1)]);
    finished.push(...beside.flat());
    if (finished.length === 0) console.log(`No test matches ${filter ?? 'at all'}.`);
    console.log(`\n${summary(finished, performance.now() - started)}`);
    return isGood(finished) && finished.length > 0 ? 0 : 1;
  } finally {
    await postgres?.stop();
    if (scratch !== undefined) rmSync(scratch, { recursive: true, force: true });
  }
}

/**
 * A temporary directory in memory, where there is room: the databases of thousands of tests commit as durably as ever, and
 * on a disk they would wait for it most of the time. Machine flows keep theirs on the disk.
 */
function memoryDirectory(): string | undefined {
  const memory = '/dev/shm';
  if (!existsSync(memory)) return undefined;
  const { bavail, bsize } = statfsSync(memory);
  if (bavail * bsize < ROOM) return undefined;
  const directory = mkdtempSync(join(memory, 'rs-test-'));
  // Test files may run as other users, PostgreSQL's among them.
  chmodSync(directory, 0o755);
  onAbruptEnd(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

function fileJob(
  file: string,
  withinMs: number,
  env: Readonly<Record<string, string>>,
  { inBackground = false } = {},
): Job {
  return { title: file, run: () => runTestFile({ root, file, withinMs, env, inBackground }) };
}

/** Runs every job, `width` at a time in their order, and tells of each as it finishes. */
async function runJobs(jobs: readonly Job[], width: number): Promise<Finished[]> {
  const finished: Finished[] = [];
  const queue = jobs.values(); // one iterator shared by all lanes
  const lane = async () => {
    for (const job of queue) finished.push(await runJob(job));
  };
  await Promise.all(Array.from({ length: width }, lane));
  return finished;
}

async function runJob(job: Job): Promise<Finished> {
  const started = performance.now();
  const outcome = await job.run();
  const finished = { title: job.title, outcome, ms: performance.now() - started };
  console.log(line(finished));
  return finished;
}

/** Machine flows share a budget of time: what no time is left for has failed. */
async function runFlows(flows: readonly string[], env: Readonly<Record<string, string>>): Promise<Finished[]> {
  const end = performance.now() + ALL_FLOWS_MS;
  const finished: Finished[] = [];
  for (const flow of flows) {
    const left = Math.min(FLOW_MS, end - performance.now());
    finished.push(await runJob(left > 0 ? fileJob(flow, left, env) : { title: flow, run: noTimeLeft }));
  }
  return finished;
}

async function noTimeLeft(): Promise<Outcome> {
  const title = `not started: the flows before it took all of ${ALL_FLOWS_MS / 60_000} min`;
  return { passed: 0, failures: [{ title, diagnostics: '' }], skipped: [] };
}
