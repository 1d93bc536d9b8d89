import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { signalPid } from '../process/pid.ts';
import { run } from '../process/run.ts';
import type { Exit, RunningProcess } from '../process/start.ts';
import { startProcess } from '../process/start.ts';

// As the service's unit has it.
const HEAP = '--max-semi-space-size=8';

const main = join(import.meta.dirname, '../../appliance/main.ts');

export interface WorkersOptions {
  /** For configurations, logs, and the state that they share. */
  directory: string;
  count: number;
  store: string;
  /** Undefined: each looks by itself for what the others have done. */
  redis: string | undefined;
  /** Lines of configuration, the same for all. */
  settings: readonly string[];
}

/** Several daemons on one database, each a process of its own with its own API: any of them may be killed and started again. */
export interface Workers {
  /** The operator's key. */
  readonly key: string;
  /** How many there are, dead ones included. */
  readonly count: number;
  /** Whether they were told to end, all of them. */
  readonly stopped: boolean;
  /** Where the API of one listens; undefined while that one is dead, starts or stands still. */
  url(index: number): string | undefined;
  /** Of the process that runs now. */
  pid(index: number): number;
  /** SIGKILL, and gone. */
  kill(index: number): Promise<void>;
  /** Resolves when its API answers. */
  start(index: number): Promise<void>;
  /** Stops it where it is (SIGSTOP); its connections stay, and it goes on at `thaw`. */
  freeze(index: number): void;
  thaw(index: number): void;
  /** What `rackstart doctor` says; rejects when an invariant is broken. */
  doctor(): Promise<string>;
  /** What they have logged as mistakes of the program: errors without a code of ours, or with `internal`. */
  defects(): Promise<string[]>;
  /** Ends all in order, and tells how each ended. */
  stop(): Promise<Exit[]>;
}

/** Starts them, each on a free port. Rejects with none left; they also end when this process does. */
export async function startWorkers({ directory, count, store, redis, settings }: WorkersOptions): Promise<Workers> {
  const state = join(directory, 'state');
  await mkdir(directory, { recursive: true });
  const config = join(directory, 'rackstart.yaml');
  const peers = redis === undefined ? [] : [`redis: ${redis}`];
  const lines = [`state: ${state}`, `store: ${store}`, ...peers, 'ramdisk: none', 'provisioning: []'];
  await writeFile(config, [...lines, ...settings, ''].join('\n'));
  const logFile = (index: number) => join(directory, `worker-${index}.log`);
  const all: { daemon: RunningProcess; url: string; isUp: boolean }[] = [];

  const start = async (index: number) => {
    const daemon = await startProcess({
      argv: ['setpriv', '--pdeathsig', 'KILL', process.execPath, HEAP, main, 'serve', '--config', config],
      logFile: logFile(index),
      graceMs: 40_000,
    });
    all[index] = { daemon, url: '', isUp: false };
    const [, url = ''] = await daemon.line(/rackstart: ready, API at (\S+)/, 120_000);
    all[index] = { daemon, url, isUp: true };
  };
  let stopped = false;
  const stop = () => {
    stopped = true;
    return Promise.all(
      all.map(async ({ daemon }) => {
        signalPid(daemon.pid, 'SIGCONT');
        return daemon.stop();
      }),
    );
  };
  try {
    // The first makes the database and the keys.
    await start(0);
    await Promise.all(Array.from({ length: count - 1 }, (_, index) => start(index + 1)));
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    key: (await readFile(join(state, 'operator.key'), 'utf8')).trim(),
    count,
    get stopped() {
      return stopped;
    },
    url: (index) => (all[index]?.isUp === true ? all[index].url : undefined),
    start,
    pid: (index) => all[index]!.daemon.pid,
    async kill(index) {
      const worker = all[index]!;
      worker.isUp = false;
      signalPid(worker.daemon.pid, 'SIGKILL');
      await worker.daemon.ended;
    },
    freeze(index) {
      all[index]!.isUp = false;
      signalPid(all[index]!.daemon.pid, 'SIGSTOP');
    },
    thaw(index) {
      signalPid(all[index]!.daemon.pid, 'SIGCONT');
      all[index]!.isUp = true;
    },
    doctor: () => run([process.execPath, main, 'doctor', '--config', config]),
    async defects() {
      const texts = await Promise.all(all.map((_, index) => readFile(logFile(index), 'utf8')));
      return texts.flatMap((text) => text.split('\n')).filter(isDefect);
    },
    stop,
  };
}

/** A line of a log; one that a kill has cut off says nothing. */
function isDefect(line: string): boolean {
  let told: { level?: number; msg?: string; code?: string; error?: { code?: string } };
  try {
    told = JSON.parse(line) as typeof told;
  } catch {
    return false;
  }
  const { level = 0, msg, code, error } = told;
  if (level < ERROR) return false;
  return (
    msg === 'a service failed' ||
    code === 'internal' ||
    (error !== undefined && (error.code ?? 'internal') === 'internal')
  );
}

const ERROR = 50;
