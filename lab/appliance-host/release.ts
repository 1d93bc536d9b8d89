import { existsSync, readFileSync } from 'node:fs';
import { cp, mkdir, rm } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';

import { run } from '../process/run.ts';
import { walk } from '../test/files.ts';

const root = join(import.meta.dirname, '../..');

/**
 * Packs a release as the file system of a disk: the project's files, and the packages that `npm ci --omit=dev` would install,
 * taken from those that are here, without what no program reads: an emulated machine copies every file for milliseconds.
 */
export async function packRelease(disk: string): Promise<void> {
  const tree = `${disk}.tree`;
  for (const file of walk(root)) await copy(file, tree);
  for (const place of [...packages(), 'node_modules/.bin/node']) await copy(place, tree);
  // Room for the files' own size and the file system's.
  const [kib = ''] = (await run(['du', '-s', '--apparent-size', '--block-size=1K', tree])).split('\t');
  await run([
    'mke2fs',
    '-q',
    '-t',
    'ext4',
    '-b',
    '4096',
    '-O',
    '^has_journal',
    '-d',
    tree,
    disk,
    `${String(Math.ceil(Number(kib) * 1.3))}K`,
  ]);
  await rm(tree, { recursive: true });
}

// Paths of packages, top level only: with one come those inside it.
function packages(): string[] {
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { dev?: boolean }>;
  };
  return Object.entries(lock.packages)
    .filter(([path, { dev }]) => /^node_modules\/(@[^/]+\/)?[^/]+$/.test(path) && dev !== true)
    .map(([path]) => path)
    .filter((path) => existsSync(join(root, path)));
}

// Types, source maps, documents; headers of Node and sources of SQLite.
const UNREAD = /\.(d\.[cm]?ts|map|md)$|^node_modules\/(node-linux-[^/]+\/include|better-sqlite3\/(deps|src))$/;

async function copy(path: string, tree: string): Promise<void> {
  await mkdir(dirname(join(tree, path)), { recursive: true });
  const filter = (source: string) => !UNREAD.test(relative(root, source));
  await cp(join(root, path), join(tree, path), { recursive: true, verbatimSymlinks: true, filter });
}
