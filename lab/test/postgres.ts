import { chownSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { onAbruptEnd } from '../process/abrupt-end.ts';
import { isAlive, signalPid } from '../process/pid.ts';
import { run } from '../process/run.ts';
import { startProcess } from '../process/start.ts';

export interface TestPostgres {
  /** Of an empty database whose user may create others; for `pg`, psql and libpq. */
  url: string;
  /** Ends the server, as an operator does who restarts it: connections are cut, the data stays. */
  halt(): Promise<void>;
  /** Starts it again where it was. */
  resume(): Promise<void>;
  /** Holds all its processes as they are: connections stay, and nobody is answered. Until `thaw`. */
  freeze(): void;
  thaw(): void;
  /** Ends the server and removes its data; stopping twice is the same as once. */
  stop(): Promise<void>;
}

export interface PostgresOptions {
  /** As in postgresql.conf; they win over those for tests, which are quick and forgetful. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Added to the server's environment. */
  readonly env?: Readonly<Record<string, string>>;
}

/** Why `startPostgres` cannot work here, in one line; undefined when it can. */
export function postgresMissing(): string | undefined {
  return programs() === undefined ? 'PostgreSQL is missing: apt-get install postgresql' : undefined;
}

/**
 * Starts Debian's PostgreSQL on a new directory, in 1 s. It listens on a Unix socket only, so that any number of them
 * run side by side, out of reach of the network. It also ends when this process does, however that ends.
 */
export async function startPostgres({ settings = {}, env = {} }: PostgresOptions = {}): Promise<TestPostgres> {
  const bin = programs();
  if (bin === undefined) throw new Error(postgresMissing());
  const directory = mkdtempSync(join(tmpdir(), 'rs-postgres-'));
  const remove = () => rmSync(directory, { recursive: true, force: true });
  let cancel = onAbruptEnd(remove);
  try {
    const owner = await asPostgres(directory);
    const data = join(directory, 'data');
    const initdb = [
      join(bin, 'initdb'),
      '-D',
      data,
      '-U',
      'postgres',
      '--auth=trust',
      '--encoding=UTF8',
      '--no-locale',
    ];
    await run([...owner, ...initdb, '--no-sync'], { cwd: directory });
    const named = Object.entries({ ...forTests, ...settings }).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
    const start = async () => {
      const started = await startProcess({
        argv: [...owner, ...dieWithParent, join(bin, 'postgres'), '-D', data, '-k', directory, ...named],
        logFile: join(directory, 'log'),
        cwd: directory,
        env,
        stopSignal: 'SIGINT', // "fast": SIGTERM would wait for the last client to leave
      });
      cancel();
      cancel = onAbruptEnd(() => {
        killNow(started.pid);
        remove();
      });
      await started.line(/ready to accept connections/, 30_000);
      return started;
    };
    let server = await start();
    return {
      url: `postgres://postgres@localhost/postgres?host=${encodeURIComponent(directory)}`,
      async halt() {
        await server.stop();
      },
      async resume() {
        server = await start();
      },
      // The first one first: it starts the others.
      freeze: () => [server.pid, ...childrenOf(server.pid)].forEach((pid) => signalPid(pid, 'SIGSTOP')),
      thaw: () => [server.pid, ...childrenOf(server.pid)].forEach((pid) => signalPid(pid, 'SIGCONT')),
      async stop() {
        await server.stop();
        cancel();
        remove();
      },
    };
  } catch (error) {
    cancel();
    remove();
    throw error;
  }
}

// Durability is tested nowhere here: the data dies with the run, and without fsync a commit is about ten times as quick.
const forTests = {
  listen_addresses: '',
  fsync: 'off',
  synchronous_commit: 'off',
  full_page_writes: 'off',
  max_connections: '200',
};

// A test file that is killed outright leaves no server behind.
const dieWithParent = ['setpriv', '--pdeathsig', 'QUIT'];

/** "Immediate" shutdown, which also ends its worker processes; waits, since they write into their directory until then. */
function killNow(pid: number): void {
  const idle = new Int32Array(new SharedArrayBuffer(4));
  signalPid(pid, 'SIGQUIT');
  for (let waited = 0; waited < 5_000 && isAlive(pid); waited += 10) Atomics.wait(idle, 0, 0, 10);
}

function childrenOf(pid: number): number[] {
  const list = readFileSync(`/proc/${String(pid)}/task/${String(pid)}/children`, 'utf8');
  return list.trim().split(' ').filter(Boolean).map(Number);
}

/** The newest PostgreSQL of this machine. */
function programs(): string | undefined {
  const root = '/usr/lib/postgresql';
  const versions = existsSync(root) ? readdirSync(root).map(Number) : [];
  return versions
    .sort((a, b) => b - a)
    .map((version) => join(root, String(version), 'bin'))
    .find((bin) => existsSync(join(bin, 'postgres')));
}

/** initdb refuses to run as root: then everything is run as Debian's user postgres. */
async function asPostgres(directory: string): Promise<string[]> {
  if (process.getuid?.() !== 0) return [];
  const [user, group] = (await Promise.all(['-u', '-g'].map((flag) => run(['id', flag, 'postgres'])))).map(Number);
  chownSync(directory, user!, group!);
  return ['setpriv', `--reuid=${user}`, `--regid=${group}`, '--init-groups'];
}
