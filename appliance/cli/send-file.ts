import { SECOND } from '../kernel/clock.ts';
import type { ApiClient } from './client.ts';
import type { CliContext } from './context.ts';
import { countedFile } from './counted-file.ts';
import { ApiFailure, NoAnswer } from './failure.ts';
import type { Progress } from './progress.ts';
import { megabytes } from './text.ts';

export interface Sending {
  readonly api: ApiClient;
  readonly progress: Progress;
  /** Of the upload. */
  readonly id: string;
  readonly path: string;
  readonly bytes: number;
  /** So many bytes are there already. */
  readonly received: number;
}

/**
 * Sends a file in parts, each from where the appliance says that it is. What fails in passing (a cut connection, a daemon that
 * is started anew) is tried again, up to nine times without progress, which is two minutes.
 */
export async function sendFile({ clock, signal }: CliContext, sending: Sending): Promise<void> {
  const { api, progress, id, path, bytes } = sending;
  const address = `/images/uploads/${id}`;
  const show = progress.meter('sending', sending.received);
  let { received } = sending;
  let failures = 0;
  for (;;) {
    try {
      if (failures > 0) {
        // What came of the part that was cut counts.
        const upload = (await api.get(address)) as { received: number };
        if (upload.received > received) failures = 0;
        received = upload.received;
      }
      if (received === bytes) return;
      const to = Math.min(received + PART_BYTES, bytes);
      const content = countedFile(path, { from: received, to }, (done) => show(done, bytes));
      await api.part(address, received, content);
      received = to;
      failures = 0;
    } catch (error) {
      if (!isInPassing(error) || failures === MOST_FAILURES) throw error;
      const seconds = Math.min(2 ** failures, 30);
      failures += 1;
      progress.line(`cut behind ${megabytes(received)}: ${error.message} Again in ${String(seconds)} s`);
      await clock.sleepUntil(clock.now() + seconds * SECOND, signal);
    }
  }
}

/** Each is on the disk when it is answered: so much may have to be sent again when the power goes. */
const PART_BYTES = 64 * 1024 * 1024;
const MOST_FAILURES = 9;

function isInPassing(error: unknown): error is Error {
  if (error instanceof NoAnswer) return true;
  return error instanceof ApiFailure && (IN_PASSING.includes(error.code) || /^http\.5/.test(error.code));
}

const IN_PASSING = ['upload.offset', 'upload.busy', 'rate.limited', 'store.unavailable'];
