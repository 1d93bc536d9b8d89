import { execFile, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { test } from 'tap';

const SCRIPTS = [
  'ramdisk/deploy',
  ...['protocol', 'network', 'disk', 'image', 'chunks', 'fetch', 'inject', 'inspect', 'wipe'].map(
    (part) => `ramdisk/${part}.sh`,
  ),
  'ramdisk/initramfs/hooks/rackstart',
  'ramdisk/initramfs/scripts/rackstart',
  'agent/rackstart-agent',
  'os/essential.sh',
  'os/customize.sh',
  'os/assemble.sh',
];

const skip = spawnSync('shellcheck', ['--version']).error ? 'shellcheck is not installed' : false;

test('shellcheck has nothing to say about the scripts of ramdisk, agent and image', { skip }, async (t) => {
  const images = join(import.meta.dirname, '..');
  const findings = await promisify(execFile)('shellcheck', ['-f', 'gcc', ...SCRIPTS], { cwd: images }).catch(
    (error: unknown) => error as { stdout: string },
  );
  t.equal(findings.stdout, '');
});
