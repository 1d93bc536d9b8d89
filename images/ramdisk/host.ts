import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

import { RackstartError } from '../../appliance/kernel/errors.ts';

/** Runs a program of the host to its end and gives its standard output. Build tools live in sbin, which not every root's PATH has. */
export async function run(
  program: string,
  args: readonly string[],
  options: { cwd?: string; env?: Record<string, string> } = {},
): Promise<string> {
  const { LANG: _lang, LANGUAGE: _language, ...inherited } = process.env;
  const env = {
    ...inherited,
    PATH: `${inherited['PATH'] ?? ''}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
    LC_ALL: 'C',
    ...options.env,
  };
  try {
    const { stdout } = await execFileAsync(program, args, { ...options, env, maxBuffer: 64 * 1024 * 1024 });
    return stdout;
  } catch (cause) {
    const { code, stderr } = cause as { code?: unknown; stderr?: string };
    if (code === 'ENOENT')
      throw new RackstartError('host.missing', `The program ${program} is not installed`, { cause });
    const said = (stderr ?? '').trim().split('\n').slice(-5).join('; ');
    throw new RackstartError('image.build-failed', `${program} failed (${String(code)}): ${said}`, { cause });
  }
}

/**
 * As `run`, with mounts of the program's own: whatever it mounts ends with it, also when it is killed, so that nobody who clears
 * its directory away walks into the host's /dev or /sys. Needs root.
 */
export async function runApart(
  program: string,
  args: readonly string[],
  options: { env?: Record<string, string> } = {},
): Promise<string> {
  return run('unshare', ['--mount', '--', program, ...args], options);
}

/** The kernel behind a metapackage such as `linux-image-amd64`, as apt would install it now. */
export interface KernelPackage {
  /** Such as `linux-image-6.1.0-56-amd64`. */
  name: string;
  version: string;
  /** What `uname -r` says under it, such as `6.1.0-56-amd64`. */
  release: string;
}

export async function kernelBehind(metapackage: string): Promise<KernelPackage> {
  const description = await run('apt-cache', ['--no-all-versions', 'show', metapackage]).catch(async () => {
    // A machine that has never seen `apt-get update` knows no packages.
    await run('apt-get', ['update', '-q']);
    return run('apt-cache', ['--no-all-versions', 'show', metapackage]);
  });
  const depends = /^Depends: linux-image-(\S+) \(= (\S+)\)/m.exec(description);
  if (!depends) throw new RackstartError('host.missing', `apt does not say which kernel ${metapackage} stands for`);
  const [, release = '', version = ''] = depends;
  return { name: `linux-image-${release}`, version, release };
}

/** `name version` of every package named, one a line; a package that is not installed is `host.missing`. */
export async function installedVersions(packages: readonly string[]): Promise<string> {
  const found = await run('dpkg-query', ['-W', '-f', '${Package} ${Version} ${db:Status-Status}\n', ...packages]).catch(
    (error: unknown) => (error instanceof RackstartError ? String((error.cause as { stdout?: string }).stdout) : ''),
  );
  const missing = packages.filter((name) => !found.split('\n').some((line) => isInstalled(line, name)));
  if (missing.length > 0) {
    throw new RackstartError('host.missing', `Debian packages are missing; run: apt-get install ${missing.join(' ')}`);
  }
  return found;
}

function isInstalled(line: string, name: string): boolean {
  return line.startsWith(`${name} `) && line.endsWith(' installed');
}

/** Building mounts, makes device nodes and unpacks files of root. */
export function requireRoot(what: string): void {
  if (process.getuid?.() !== 0) throw new RackstartError('host.missing', `${what} needs root; start it as root`);
}

const execFileAsync = promisify(execFile);
