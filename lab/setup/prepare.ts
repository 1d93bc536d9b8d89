/**
 * Builds what the machines of the lab boot and install, or finds it in the cache (`~/.cache/rackstart`), which the names
 * and versions of all packages in it are the key of. Run by `lab/setup.sh`.
 */
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

import { asRackstartError } from '../../appliance/kernel/errors.ts';
import { buildOsImage } from '../../images/os/build.ts';
import { buildKey } from '../../images/ramdisk/artifact-cache.ts';
import { buildRamdisk } from '../../images/ramdisk/build.ts';
import { buildRootImage } from '../appliance-host/root-image.ts';

const cacheDirectory = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'rackstart');
const stampFile = join(cacheDirectory, 'prepared.json');
const started = performance.now();

try {
  await prepare();
} catch (error) {
  const { message, hint } = asRackstartError(error);
  console.error(`setup: ${message}\n       ${hint}`);
  process.exitCode = 1;
}

/** What an earlier run prepared, from which inputs. */
interface Stamp {
  inputs: string;
  files: string[];
}

// Asking apt for versions takes 2 s of CPU, more than all the rest of a second run: only when something may have changed.
async function prepare(): Promise<void> {
  const builders = ['../../images', '../appliance-host'].map((path) => join(import.meta.dirname, path));
  const inputs = await buildKey(aptState(), builders);
  const stamp = existsSync(stampFile) ? (JSON.parse(readFileSync(stampFile, 'utf8')) as Stamp) : undefined;
  if (stamp?.inputs === inputs && stamp.files.every((file) => existsSync(file))) return;

  const [ramdisk, image, cloudImage] = await Promise.all([
    buildRamdisk({ cacheDirectory, progress }),
    buildOsImage({ cacheDirectory, name: 'debian-12', progress }),
    buildOsImage({ cacheDirectory, name: 'debian-12-cloud', cloudInit: true, progress }),
  ]);
  const host = await buildRootImage(cacheDirectory, progress);
  const done: Stamp = { inputs, files: [ramdisk.kernel, ramdisk.initrd, image.path, cloudImage.path, host.disk] };
  writeFileSync(stampFile, JSON.stringify(done));
}

/** Changes whenever packages are installed, package lists fetched or package sources edited. */
function aptState(): string[] {
  const places = ['/var/lib/dpkg/status', '/var/lib/apt/lists', '/etc/apt/sources.list', '/etc/apt/sources.list.d'];
  return places.map((path) => `${path} ${statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 'none'}`);
}

function progress(line: string): void {
  console.log(`setup: ${line} (${((performance.now() - started) / 1_000).toFixed(0)} s)`);
}
