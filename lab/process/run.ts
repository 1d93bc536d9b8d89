import { execFile } from 'node:child_process';

export interface RunOptions {
  /** Written to the program's standard input. */
  input?: string;
  cwd?: string;
  /** Added to this process's own environment. */
  env?: Readonly<Record<string, string>>;
  /** The program is killed after this; 60,000 when left out. */
  withinMs?: number;
}

/** Runs a program to its end and resolves to its standard output; rejects, with what it wrote, unless it exits with 0. */
export function run(
  argv: readonly string[],
  { input = '', cwd, env, withinMs = 60_000 }: RunOptions = {},
): Promise<string> {
  const [program = '', ...args] = argv;
  const limits = { timeout: withinMs, killSignal: 'SIGKILL', maxBuffer: 64 * 1024 * 1024 } as const;
  return new Promise((resolve, reject) => {
    const child = execFile(
      program,
      args,
      { ...limits, cwd, env: { ...process.env, ...env } },
      (error, stdout, stderr) => {
        if (error === null) {
          resolve(stdout);
          return;
        }
        const end = error.killed ? `killed after ${withinMs / 1000} s` : (error.signal ?? `exit ${String(error.code)}`);
        reject(new Error(`${argv.join(' ')}: ${end}\n${stdout}${stderr}`.trim(), { cause: error }));
      },
    );
    child.stdin?.on('error', () => undefined); // a program that does not read its input
    child.stdin?.end(input);
  });
}
