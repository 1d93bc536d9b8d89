import { closeSync, openSync } from 'node:fs';

/**
 * Makes an empty file that only we may read; false when there is one already. That one is not opened: closing any
 * descriptor of a file ends every POSIX lock this process has on it, SQLite's among them (fcntl(2)).
 */
export function createPrivateFile(path: string): boolean {
  try {
    closeSync(openSync(path, 'wx', 0o600));
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}
