import { RackstartError } from '../../appliance/kernel/errors.ts';
import { run } from '../ramdisk/host.ts';

/** The Debian of this host, from where this host gets it: codename and one-line sources. */
export async function debianSources(): Promise<{ codename: string; lines: readonly string[] }> {
  const fields = ['ORIGIN', 'REPO_URI', 'RELEASE', 'CODENAME', 'COMPONENT'];
  const format = fields.map((field) => `$(${field})`).join(' ');
  const targets = await run('apt-get', ['indextargets', '--format', format, 'Created-By: Packages']);
  const debian = [...new Set(targets.split('\n'))]
    .map((line) => line.split(' '))
    .filter(([origin]) => origin === 'Debian');

  // The shortest codename is the release itself; `-updates` and `-security` belong to it.
  const codename = debian.map(([, , , name = '']) => name).sort((a, b) => a.length - b.length)[0];
  if (!codename)
    throw new RackstartError('host.missing', 'apt knows no Debian sources; add one and run apt-get update');
  const lines = debian
    .filter(([, , , name = '']) => name === codename || name.startsWith(`${codename}-`))
    .map(([, uri, release, , component]) => `deb ${uri} ${release} ${component}`);
  return { codename, lines };
}

/** How this host's apt goes out (proxies, certificates, retries), as a configuration file of apt. */
export async function aptSettings(): Promise<string> {
  const all = await run('apt-config', ['dump', '--no-empty', '--format', '%F "%v";%n']);
  return (
    all
      .split('\n')
      .filter((line) => /^Acquire::(https?|Retries)\b/.test(line))
      .join('\n') + '\n'
  );
}

/** `name version` for every package, as apt would install it now. */
export async function candidateVersions(packages: readonly string[]): Promise<string> {
  const shown = await run('apt-cache', ['--no-all-versions', 'show', ...packages]);
  const found = [...shown.matchAll(/^(?:Package|Version): .*$/gm)].map(([line]) => line);
  return found.join('\n');
}
