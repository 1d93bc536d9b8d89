import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const BINARIES = '/usr/lib/postgresql';

/** Debian's PostgreSQL on a socket in a temporary directory; one line on what is missing where that can't run. */
export async function startPostgres(): Promise<{ url: string; stop(): Promise<void> } | string> {
  const version = existsSync(BINARIES) ? readdirSync(BINARIES).sort().at(-1) : undefined;
  if (version === undefined) return 'needs the package postgresql';
  if (process.getuid?.() !== 0) return 'needs root to become the user postgres';
  const run = promisify(execFile);
  const [uid, gid] = await Promise.all(
    ['-u', '-g'].map(async (flag) => Number((await run('id', [flag, 'postgres'])).stdout)),
  );
  const directory = mkdtempSync(join(tmpdir(), 'rs-pg-'));
  const data = join(directory, 'data');
  mkdirSync(data, { mode: 0o700 });
  for (const path of [directory, data]) chownSync(path, uid ?? 0, gid ?? 0);
  const program = (name: string) => join(BINARIES, version, 'bin', name);
  // setpriv stays the same process, and the kernel ends the server should this process die without a word.
  const become = ['--reuid=postgres', '--regid=postgres', '--clear-groups', '--pdeathsig=QUIT', '--'];
  const options = { cwd: directory };
  await run(
    'setpriv',
    [
      ...become,
      program('initdb'),
      '-D',
      data,
      '-U',
      'postgres',
      '-A',
      'trust',
      '-E',
      'UTF8',
      '--locale=C',
      '--no-sync',
    ],
    options,
  );
  const settings = ['listen_addresses=', `unix_socket_directories=${directory}`, 'fsync=off', 'max_connections=100'];
  const server = spawn(
    'setpriv',
    [...become, program('postgres'), '-D', data, ...settings.flatMap((setting) => ['-c', setting])],
    { ...options, stdio: ['ignore', 'ignore', 'pipe'] },
  );
  const exited = once(server, 'exit');
  for await (const chunk of server.stderr) {
    if (String(chunk).includes('ready to accept connections')) break;
  }
  return {
    url: `postgres://postgres@${encodeURIComponent(directory)}/postgres`,
    async stop() {
      server.kill('SIGQUIT');
      await exited;
      rmSync(directory, { recursive: true });
    },
  };
}
