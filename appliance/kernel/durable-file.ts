import { link, open, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

/**
 * A new file at `path`, whole or not at all however we end, and on disk when the promise resolves. `mode`: octal
 * permission bits. Rejects with EEXIST, and changes nothing, when there is a file already.
 */
export async function writeOnce(path: string, content: string | Uint8Array, mode: number): Promise<void> {
  const draft = `${path}.new`;
  // Of a writer that was killed.
  await rm(draft, { force: true });
  const file = await open(draft, 'wx', mode);
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
  // Unlike a rename, a link never replaces what is there.
  await link(draft, path).finally(() => rm(draft));
  await syncDirectory(dirname(path));
}

/** What was written to `file` before is durable when the promise resolves. */
export function syncFile(file: string): Promise<void> {
  return sync(file);
}

/** What was linked or renamed in `directory` before is durable when the promise resolves. */
export function syncDirectory(directory: string): Promise<void> {
  return sync(directory);
}

async function sync(path: string): Promise<void> {
  const handle = await open(path);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
