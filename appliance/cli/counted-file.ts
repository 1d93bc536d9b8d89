import { createReadStream } from 'node:fs';
import { Readable, Transform } from 'node:stream';
import type { ReadableStream } from 'node:stream/web';

/** A file's bytes, from one to before another; `tell` hears up to where they have been taken. */
export function countedFile(
  path: string,
  { from, to }: { from: number; to: number },
  tell: (done: number) => void,
): ReadableStream<Uint8Array> {
  let done = from;
  const count = new Transform({
    transform(chunk: Buffer, _encoding, next) {
      done += chunk.length;
      tell(done);
      next(null, chunk);
    },
  });
  const file = createReadStream(path, { start: from, end: to - 1, highWaterMark: READ_BYTES });
  file.once('error', (error) => count.destroy(error));
  count.once('close', () => file.destroy());
  return Readable.toWeb(file.pipe(count)) as ReadableStream<Uint8Array>;
}

const READ_BYTES = 1024 * 1024;
