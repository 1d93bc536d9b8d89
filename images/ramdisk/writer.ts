import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { buildKey, cachedArtifact } from './artifact-cache.ts';
import { installedVersions, run } from './host.ts';

/** Where the ramdisk's one compiled program comes from; a new version of any of them makes a new one. */
const PACKAGES = ['gcc', 'libc6-dev', 'libcurl4-openssl-dev', 'libssl-dev', 'libzstd-dev'];

/**
 * Directory of `write-chunks`, compiled from write-chunks.c for this host's architecture. The second call with the same source
 * and packages finds it done. Error: `host.missing` names the Debian packages that are not there.
 */
export async function buildWriter({ cacheDirectory }: { cacheDirectory: string }): Promise<string> {
  const source = join(import.meta.dirname, 'write-chunks.c');
  const [packages, text] = await Promise.all([installedVersions(PACKAGES), readFile(source, 'utf8')]);
  const key = await buildKey([text, packages, FLAGS.join(' '), process.arch], []);
  return cachedArtifact({ cacheDirectory, name: 'write-chunks', key }, async (_workspace, result) => {
    await run('gcc', [...FLAGS, '-o', join(result, 'write-chunks'), source, ...LIBRARIES]);
  });
}

const FLAGS = ['-std=c11', '-O2', '-D_FORTIFY_SOURCE=2', '-fstack-protector-strong', '-Wall', '-Wextra', '-pthread'];
const LIBRARIES = ['-lcurl', '-lcrypto', '-lzstd'];
