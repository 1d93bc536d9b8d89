import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { onAbruptEnd } from '../process/abrupt-end.ts';
import { signalPid } from '../process/pid.ts';
import type { RunningProcess } from '../process/start.ts';
import { startProcess } from '../process/start.ts';

export interface TestRedis {
  /** For ioredis and redis-cli; the same after every start. */
  url: string;
  /** SIGKILL, and gone. */
  kill(): Promise<void>;
  /** Stops answering without closing a connection, as a host does that is too busy; `thaw` ends that. */
  freeze(): void;
  thaw(): void;
  /** Starts it again after `kill`, empty. */
  start(): Promise<void>;
  /** Ends it and removes what it left; stopping twice is the same as once. */
  stop(): Promise<void>;
}

const PROGRAM = '/usr/bin/redis-server';

/** Why `startRedis` cannot work here, in one line; undefined when it can. */
export function redisMissing(): string | undefined {
  return existsSync(PROGRAM) ? undefined : 'Redis is missing: apt-get install redis-server';
}

/** Starts Debian's Redis on a Unix socket in a new directory, keeping nothing on disk. It also ends when this process does. */
export async function startRedis({ password }: { password?: string } = {}): Promise<TestRedis> {
  const directory = mkdtempSync(join(tmpdir(), 'rs-redis-'));
  const socket = join(directory, 'redis.sock');
  const remove = () => rmSync(directory, { recursive: true, force: true });
  const secret = password === undefined ? [] : ['--requirepass', password];
  let server: RunningProcess | undefined;
  const cancel = onAbruptEnd(() => {
    if (server !== undefined) signalPid(server.pid, 'SIGKILL');
    remove();
  });
  const start = async () => {
    server = await startProcess({
      argv: ['setpriv', '--pdeathsig', 'KILL', PROGRAM, '--port', '0', '--unixsocket', socket, ...settings, ...secret],
      logFile: join(directory, 'log'),
      cwd: directory,
    });
    await server.line(/ready to accept connections/i, 10_000);
  };
  await start();
  return {
    url: password === undefined ? socket : `${socket}?password=${password}`,
    start,
    async kill() {
      signalPid(server!.pid, 'SIGKILL');
      await server!.ended;
    },
    freeze: () => void signalPid(server!.pid, 'SIGSTOP'),
    thaw: () => void signalPid(server!.pid, 'SIGCONT'),
    async stop() {
      signalPid(server!.pid, 'SIGCONT');
      await server!.stop();
      cancel();
      remove();
    },
  };
}

const settings = ['--save', '', '--appendonly', 'no'];
