import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

import { skip, test } from 'tap';

import { buildWriter } from './writer.ts';

/** Directory of the ramdisk's compiled program, for a stage that runs on this host. */
export async function writerHere(): Promise<string> {
  const cacheDirectory = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'rackstart');
  return buildWriter({ cacheDirectory });
}

/** A test that needs this program: skipped where there is nothing to compile it with. `npm test` installs that. */
export const writerTest = ['/usr/bin/gcc', '/usr/include/zstd.h'].every((path) => existsSync(path)) ? test : skip;
