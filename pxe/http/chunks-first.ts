import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';

import type { FrozenSource } from '../../images/frozen-images.ts';
import type { FrozenImageDeps } from './frozen-images.ts';
import { CHUNK_TYPE, cannotBeSent } from './frozen-images.ts';
import { FOREVER } from './immutable.ts';

export type ChunkDeps = Pick<FrozenImageDeps, 'sender' | 'log'> & { readonly frozen: Pick<FrozenSource, 'chunk'> };

/**
 * Answers before Fastify who asks for a whole chunk and for nothing else: a ramdisk does hundreds of times, one after the other,
 * and of the 0.6 ms that an answer took Fastify had 0.2 to 0.3. Conditions, ranges, other things, and what is to be told of a
 * chunk that is missing or damaged are `others`' (`registerFrozenImages`), whose answer to the same question is the same.
 */
export function chunksFirst({ frozen, sender, log }: ChunkDeps, others: RequestListener): RequestListener {
  return (request, response) => {
    const sha256 = wholeChunk(request);
    if (sha256 === undefined) others(request, response);
    else void answer(sha256, request, response);
  };

  async function answer(sha256: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const stored = await frozen.chunk(sha256);
      if (stored === undefined) {
        others(request, response);
        return;
      }
      const { bytes } = stored;
      const head = { ...ALWAYS, etag: `"${sha256}"`, 'content-length': bytes };
      await sender.send(response, () => response.writeHead(200, head), stored.read(0, bytes - 1));
    } catch (error) {
      // They find the same, and tell of it.
      if (!response.headersSent) others(request, response);
      else cannotBeSent(log, error);
    }
  }
}

const ALWAYS = { 'content-type': CHUNK_TYPE, 'accept-ranges': 'bytes', ...FOREVER };

function wholeChunk({ method, url = '', headers }: IncomingMessage): string | undefined {
  if (method !== 'GET' || headers.range !== undefined || headers['if-none-match'] !== undefined) return undefined;
  return /^\/chunk\/([0-9a-f]{64})$/.exec(url)?.[1];
}
