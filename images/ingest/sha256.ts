import { Worker } from 'node:worker_threads';

/** What the thread is started with. */
export interface HashTask {
  readonly path: string;
}

export type HashReport =
  | { readonly kind: 'progress'; readonly done: number; readonly of: number }
  | { readonly kind: 'hashed'; readonly sha256: string };

/** Of a whole file, hex; in a thread of its own, since the daemon has others to answer meanwhile. */
export async function sha256OfFile(
  path: string,
  signal: AbortSignal,
  progress: (done: number, of: number) => void = () => undefined,
): Promise<string> {
  signal.throwIfAborted();
  const worker = new Worker(new URL('./sha256-worker.ts', import.meta.url), {
    workerData: { path } satisfies HashTask,
  });
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const stop = () => {
    reject(signal.reason as Error);
    void worker.terminate();
  };
  worker.on('message', (report: HashReport) => {
    if (report.kind === 'progress') progress(report.done, report.of);
    else resolve(report.sha256);
  });
  worker.on('error', reject);
  worker.on('exit', () => reject(new Error(`the thread that read ${path} ended`)));
  signal.addEventListener('abort', stop, { once: true });
  return promise.finally(() => signal.removeEventListener('abort', stop));
}
