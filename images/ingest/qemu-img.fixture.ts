import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { Test } from 'tap';

/** What a test that converts images waits for; undefined when all of it is there. */
export function qemuImgMissing(): string | undefined {
  return existsSync('/usr/bin/qemu-img') ? undefined : 'qemu-utils is not installed';
}

/** Outside of any sandbox, as the peer that made the files our readers are held against. */
export function qemuImg(...args: string[]): string {
  return execFileSync('/usr/bin/qemu-img', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** A directory of this test alone; gives paths in it. */
export function scratch(t: Test): (name: string) => string {
  const directory = mkdtempSync(join(tmpdir(), 'rs-ingest-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return (name) => join(directory, name);
}
