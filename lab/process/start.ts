import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { closeSync, openSync, readFileSync, statSync } from 'node:fs';

import { until } from './until.ts';

export interface StartOptions {
  /** Program and arguments; `rack.exec([...])` puts a program into a rack's network. */
  argv: readonly string[];
  /** Takes standard output and standard error; what is already there stays. */
  logFile: string;
  cwd?: string;
  /** Added to this process's own environment. */
  env?: Readonly<Record<string, string>>;
  /** What `stop` asks with; SIGTERM when left out. */
  stopSignal?: NodeJS.Signals;
  /** How long `stop` waits before it kills; 5,000 when left out. */
  graceMs?: number;
}

/** How a process ended; exactly one of the two is not null. */
export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

export interface RunningProcess {
  readonly pid: number;
  readonly logFile: string;
  /** Settles when the process ends, however it ends; never rejects. */
  readonly ended: Promise<Exit>;
  /** What it has written so far. */
  log(): string;
  /** The first match of `pattern` in what it has written; rejects with the end of its log when it ends or is late. */
  line(pattern: RegExp, withinMs: number): Promise<RegExpExecArray>;
  /** Asks it to end, kills it when it does not, and resolves when it is gone; stopping twice is the same as once. */
  stop(): Promise<Exit>;
}

/** Starts a program that keeps running. Rejects when it cannot be started at all. */
export async function startProcess(options: StartOptions): Promise<RunningProcess> {
  const { argv, logFile } = options;
  const from = statSync(logFile, { throwIfNoEntry: false })?.size ?? 0;
  const child = await launch(options);
  const ended = new Promise<Exit>((resolve) => {
    child.once('exit', (code, signal) => resolve({ code, signal }));
  });
  const running = () => child.exitCode === null && child.signalCode === null;
  const log = () => readFileSync(logFile).subarray(from).toString();

  return {
    pid: child.pid!,
    logFile,
    ended,
    log,
    async line(pattern, withinMs) {
      const look = () => {
        const alive = running(); // before reading: what it wrote last counts
        const match = pattern.exec(log());
        if (match === null && !alive) throw new Error('it ended');
        return match;
      };
      try {
        return await until(`${argv.join(' ')} writes ${String(pattern)}`, withinMs, look);
      } catch (cause) {
        throw new Error(`${(cause as Error).message}\n${argv.join(' ')}\n${log().slice(-2_000)}`, { cause });
      }
    },
    async stop() {
      if (!running()) return ended;
      child.kill(options.stopSignal ?? 'SIGTERM');
      const patience = setTimeout(() => child.kill('SIGKILL'), options.graceMs ?? 5_000);
      const exit = await ended;
      clearTimeout(patience);
      return exit;
    },
  };
}

function launch({ argv, logFile, cwd, env }: StartOptions): Promise<ChildProcess> {
  const [program = '', ...args] = argv;
  const output = openSync(logFile, 'a');
  const child = spawn(program, args, { cwd, env: { ...process.env, ...env }, stdio: ['ignore', output, output] });
  closeSync(output);
  return new Promise((resolve, reject) => {
    child.once('spawn', () => resolve(child));
    child.once('error', reject);
  });
}
