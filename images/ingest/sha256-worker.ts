import { createHash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';

import { goBehindOthers } from '../behind-others.ts';
import type { HashReport, HashTask } from './sha256.ts';

/** Synchronous: the thread does nothing else. */
function hashFile({ path }: HashTask, tell: (report: HashReport) => void): void {
  goBehindOthers();
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafeSlow(PIECE);
  const file = openSync(path, 'r');
  try {
    const { size } = fstatSync(file);
    for (let done = 0; ;) {
      const got = readSync(file, buffer, 0, PIECE, done);
      if (got === 0) break;
      hash.update(buffer.subarray(0, got));
      done += got;
      tell({ kind: 'progress', done, of: size });
    }
  } finally {
    closeSync(file);
  }
  tell({ kind: 'hashed', sha256: hash.digest('hex') });
}

const PIECE = 4 * 1024 ** 2;

hashFile(workerData as HashTask, (report) => parentPort?.postMessage(report));
