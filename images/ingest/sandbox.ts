import { spawn } from 'node:child_process';
import type { ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';

import { RackstartError } from '../../appliance/kernel/errors.ts';

export interface Sandboxed {
  /** An absolute path below /usr; its libraries are those of the host. */
  readonly program: string;
  readonly args: readonly string[];
  /** Files it can read, and their names in there. */
  readonly readable: Readonly<Record<string, string>>;
  /** Files it can write; they exist already. */
  readonly writable: Readonly<Record<string, string>>;
  readonly limits: SandboxLimits;
  /** Kills it, and everything it started. */
  readonly signal: AbortSignal;
  /** Hears what it says on its standard output, as it comes. */
  readonly told?: (text: string) => void;
}

export interface SandboxLimits {
  /** Of address space. */
  readonly memoryBytes: number;
  readonly cpuSeconds: number;
  /** The longest that any file may become. */
  readonly fileBytes: number;
}

export interface SandboxEnd {
  /** undefined when a signal ended it: SIGXCPU, SIGXFSZ and SIGKILL tell which limit. */
  readonly code: number | undefined;
  readonly killedBy: NodeJS.Signals | undefined;
  /** What it said on both streams (of standard output nothing where `told` hears it), its end. */
  readonly output: string;
}

/**
 * Runs a program that reads what a stranger made. It sees its own binary, the libraries, /dev/null and the files named; no
 * /etc, no /proc, no network, no process of ours, and nothing that it can write but `writable`.
 *
 * By bubblewrap, since that works alike for root and, by a user namespace, for a daemon without rights; a transient systemd
 * unit would take root and a running systemd, `unshare` alone leaves the host's files in view. Limits are resource limits
 * (`prlimit`), which need no cgroup to be handed to us. When this process dies, however it does, the sandbox dies with it.
 *
 * Errors: `host.missing` when bubblewrap or the kernel's namespaces are not there; the signal's reason when it aborts.
 */
export async function runInSandbox(sandboxed: Sandboxed): Promise<SandboxEnd> {
  const { signal } = sandboxed;
  signal.throwIfAborted();
  const [program = '', ...args] = [...limitedBy(sandboxed.limits), ...bubblewrap(sandboxed)];
  // A group of its own, so that what is killed is all of it.
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: true, env: SEARCH_PATH });
  const kill = () => killGroup(child);
  signal.addEventListener('abort', kill, { once: true });
  const output = new Tail();
  const { told } = sandboxed;
  child.stdout.on('data', (chunk: Buffer) => (told ? told(chunk.toString('latin1')) : output.take(chunk)));
  child.stderr.on('data', (chunk: Buffer) => output.take(chunk));
  try {
    // 'error': it could not be started.
    const [code, killedBy] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
    signal.throwIfAborted();
    const said = output.text();
    if (code !== 0 && NOT_STARTED.test(said)) throw missing(said);
    return endOf(code, killedBy, said);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw missing('prlimit is not installed', error);
    throw error;
  } finally {
    signal.removeEventListener('abort', kill);
  }
}

function limitedBy({ memoryBytes, cpuSeconds, fileBytes }: SandboxLimits): string[] {
  // The daemon's own capability (raw sockets) would make bubblewrap believe that it was installed setuid.
  const powerless = ['setpriv', '--inh-caps=-all', '--ambient-caps=-all', '--no-new-privs', '--'];
  const limits = [`--as=${memoryBytes}`, `--cpu=${cpuSeconds}`, `--fsize=${fileBytes}`, '--core=0', '--nofile=64'];
  return ['prlimit', ...limits, '--', ...powerless];
}

function bubblewrap({ program, args, readable, writable }: Sandboxed): string[] {
  const files = [
    ...[program, '/usr/lib'].flatMap((path) => ['--ro-bind', path, path]),
    ...['--ro-bind-try', '/usr/lib64', '/usr/lib64'],
    ...['--symlink', 'usr/lib', '/lib', '--symlink', 'usr/lib64', '/lib64'],
    ...['--dev-bind', '/dev/null', '/dev/null'],
    ...Object.entries(readable).flatMap(([name, path]) => ['--ro-bind', path, name]),
    ...Object.entries(writable).flatMap(([name, path]) => ['--bind', path, name]),
    // Its root lies in memory, which no limit above counts.
    ...['--remount-ro', '/'],
  ];
  // Not cgroups, which are seen by a mount that is not there, and not the host's name, which takes a right to change: the
  // service may make these namespaces, the one of mounts that bubblewrap always makes, and no other.
  const namespaces = ['user', 'pid', 'net', 'ipc'].map((name) => `--unshare-${name}`);
  const walls = [...namespaces, '--die-with-parent', '--new-session', '--cap-drop', 'ALL', '--clearenv'];
  // Else malloc reserves 64 MiB of address space for each of many threads, on machines with many processors beyond any limit.
  const environment = ['--setenv', 'MALLOC_ARENA_MAX', '1'];
  return ['bwrap', ...walls, ...environment, ...files, '--', program, ...args];
}

function killGroup({ pid }: ChildProcessByStdio<null, Readable, Readable>): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It has ended meanwhile.
  }
}

/** The end of what a program says: it may say without end. */
class Tail {
  #chunks: Buffer[] = [];
  #bytes = 0;

  take(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    while (this.#bytes - (this.#chunks[0]?.length ?? 0) > MOST_OUTPUT) this.#bytes -= this.#chunks.shift()?.length ?? 0;
  }

  text(): string {
    const text = Buffer.concat(this.#chunks).toString('utf8').slice(-MOST_OUTPUT);
    return text.replace(/[^\P{Cc}\n]/gu, '').trim();
  }
}

/** bubblewrap tells of its program's signal as shells do, by 128 and the number. */
function endOf(code: number | null, killedBy: NodeJS.Signals | null, output: string): SandboxEnd {
  const passedOn = code === null ? undefined : SIGNALS[code];
  return { code: passedOn === undefined ? (code ?? undefined) : undefined, killedBy: killedBy ?? passedOn, output };
}

function missing(said: string, cause?: unknown): RackstartError {
  return new RackstartError(
    'host.missing',
    `Programs can't be shut in (Debian packages bubblewrap and qemu-utils, user namespaces): ${said}`,
    { cause },
  );
}

const SEARCH_PATH = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' };
const NOT_STARTED = /^(bwrap|prlimit|setpriv): /m;
const MOST_OUTPUT = 4096;
const SIGNALS: Readonly<Record<number, NodeJS.Signals>> = {
  134: 'SIGABRT',
  137: 'SIGKILL',
  139: 'SIGSEGV',
  152: 'SIGXCPU',
  153: 'SIGXFSZ',
};
