import { Worker } from 'node:worker_threads';

import type { DemandSeries } from '../../scheduler/forecast/demand-series.ts';
import type { ChosenMethod } from '../../scheduler/forecast/forecast.ts';
import type { Millis } from '../kernel/clock.ts';

/** What the thread is started with, in `choose-method-worker.ts`. */
export interface ChooseTask {
  readonly series: DemandSeries;
  readonly leadMs: Millis;
}

/** As `chooseMethod`, in a thread of its own: it computes for up to 200 ms, and a DHCP reply does not wait for that. */
export async function chooseInThread(task: ChooseTask, signal: AbortSignal): Promise<ChosenMethod> {
  signal.throwIfAborted();
  const worker = new Worker(new URL('./choose-method-worker.ts', import.meta.url), { workerData: task });
  const { promise, resolve, reject } = Promise.withResolvers<ChosenMethod>();
  const stop = () => {
    reject(signal.reason as Error);
    void worker.terminate();
  };
  worker.once('message', resolve);
  worker.once('error', reject);
  worker.once('exit', () => reject(new Error('the thread that chose a forecast method ended')));
  signal.addEventListener('abort', stop, { once: true });
  return promise.finally(() => signal.removeEventListener('abort', stop));
}
