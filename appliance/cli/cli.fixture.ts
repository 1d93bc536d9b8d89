import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { Test } from 'tap';

import { loadConfig } from '../config.ts';
import { systemClock } from '../kernel/clock.ts';
import { createIds } from '../kernel/ids.ts';
import { describeFailure } from './failure.ts';
import { createProgram } from './program.ts';

const MAIN = join(import.meta.dirname, '../main.ts');

/** How a command ended, and what it said. */
export interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** A directory with the configuration of an appliance that has no provisioning network. */
export interface Place {
  readonly directory: string;
  readonly config: string;
  /** Runs `rackstart` with these arguments as a process of its own. */
  readonly spawned: (...args: string[]) => Promise<Ended>;
  /** The same within this process, which takes a hundredth of the time. */
  readonly rackstart: (...args: string[]) => Promise<Ended>;
  /** `serve`, until it says that it is ready. */
  serve(): Promise<Served>;
}

export interface Served {
  readonly url: string;
  /** Runs a command that asks this appliance, with the operator's first key unless another is named. */
  ask(args: readonly string[], keyFile?: string): Promise<Ended>;
  /** Sends SIGTERM and waits. */
  stop(): Promise<Ended>;
}

export function place(t: Test): Place {
  const directory = mkdtempSync(join(tmpdir(), 'rs-cli-'));
  const running = new Set<ChildProcess>();
  t.teardown(async () => {
    for (const child of running) {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    rmSync(directory, { recursive: true });
  });
  const config = join(directory, 'rackstart.yaml');
  writeFileSync(config, 'state: state\nramdisk: none\napi: { port: 0 }\nprovisioning: []\n');

  const start = (args: readonly string[]) => {
    const env = { PATH: process.env['PATH'], HOME: directory };
    const child = spawn(process.execPath, [MAIN, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    running.add(child);
    child.once('exit', () => running.delete(child));
    const ended: Promise<Ended> = Promise.all([once(child, 'exit'), text(child.stdout), text(child.stderr)]).then(
      ([[code], out, err]) => ({ code: code as number | null, out, err }),
    );
    return { child, ended };
  };

  return {
    directory,
    config,
    spawned: (...args) => start(args).ended,
    rackstart: (...args) => within(args, {}),
    async serve() {
      const { child, ended } = start(['serve', '--config', config]);
      let said = '';
      child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
      const ready = () => /rackstart: ready, API at (http:\S+) /.exec(said)?.[1];
      while (ready() === undefined) {
        const early = await Promise.race([ended, once(child.stdout, 'data').then(() => undefined)]);
        if (early !== undefined) throw new Error(`serve ended: ${early.err}`);
      }
      const url = ready() ?? '';
      return {
        url,
        ask: (args, keyFile = join(directory, 'state/operator.key')) =>
          within(args, { RACKSTART_URL: url, RACKSTART_KEY_FILE: keyFile }),
        stop() {
          child.kill('SIGTERM');
          return ended;
        },
      };
    },
  };
}

/** What main.ts does with a command. */
async function within(args: readonly string[], environment: Record<string, string>): Promise<Ended> {
  const said = { out: '', err: '' };
  const program = createProgram({
    stdout: { write: (chunk) => (said.out += chunk) },
    stderr: { write: (chunk) => (said.err += chunk) },
    environment,
    clock: systemClock,
    ids: createIds(systemClock),
    signal: new AbortController().signal,
    loadConfig: (file) => loadConfig(file, environment),
    serve: () => Promise.reject(new Error('serve is a process of its own')),
  });
  try {
    await program.parseAsync(args, { from: 'user' });
    return { code: 0, ...said };
  } catch (error) {
    const { text: why, exitCode } = describeFailure(error);
    return { code: exitCode, out: said.out, err: said.err + why };
  }
}

export function read(...path: string[]): string {
  return readFileSync(join(...path), 'utf8');
}
