import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';

/** Of a whole file, hex. Read in pieces of 1 MiB, each a turn of the event loop. */
export async function sha256OfFile(path: string, signal: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 ** 2, signal })) hash.update(chunk as Buffer);
  return hash.digest('hex');
}
