import { Readable } from 'node:stream';

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';

import { RackstartError } from '../../appliance/kernel/errors.ts';
import type { Log } from '../../appliance/kernel/log.ts';
import type { Turnstile } from '../../appliance/kernel/turnstile.ts';
import type { FrozenSource, Stored } from '../../images/frozen-images.ts';
import { FOREVER, beginImmutable } from './immutable.ts';
import type { Witness } from './witness.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** No firmware waits for it: what a ramdisk asks for again, and goes on with. */
    bulk?: boolean;
  }
}

export interface FrozenImageDeps {
  readonly frozen: FrozenSource;
  /** Each piece of a body passes it: clients take turns, and none of them the event loop. */
  readonly turns: Turnstile;
  readonly witness: Witness;
  readonly log: Log;
}

/**
 * Maps, chunks and whole files of frozen images: public, named by what they hold, and the same for ever, so that any cache may
 * stand in front. A machine asks for hundreds of chunks, which its ramdisk tells of: the timeline has its map alone.
 */
export function registerFrozenImages(app: FastifyInstance, { frozen, turns, witness, log }: FrozenImageDeps): void {
  const route = (url: string, type: string, find: (digest: string) => Promise<Stored | undefined>, seen?: string) =>
    app.route<{ Params: { digest: string } }>({
      method: ['GET', 'HEAD'],
      url,
      schema: { params },
      config: { bulk: true, ...(seen === undefined ? {} : { seen }) },
      handler: async (request, reply) => {
        const { digest } = request.params;
        const stored = await find(digest).catch(tellOperators);
        if (stored === undefined) throw new RackstartError('not-found', 'Nothing of this digest is stored here.');
        return send(request, reply, { stored, digest, type });
      },
    });
  route('/image/:digest/map', 'text/plain; charset=us-ascii', (digest) => frozen.map(digest), 'image-map');
  route('/image/:digest/image.zst', 'application/zstd', (digest) => frozen.image(digest), 'image');
  route('/chunk/:digest', 'application/zstd', (sha256) => frozen.chunk(sha256));

  function send(
    request: FastifyRequest,
    reply: FastifyReply,
    { stored, digest, type }: { stored: Stored; digest: string; type: string },
  ): FastifyReply {
    const range = beginImmutable(request, reply, { bytes: stored.bytes, sha256: digest, type });
    reply.headers(FOREVER);
    if (range === undefined) return reply.send();
    const { start, end, partial } = range;
    if (partial) witness.remark(request, { facts: { range: `${start}-${end}` } });
    // One piece waits beside the one that the socket has: a client that stalls keeps no more in memory.
    return reply.send(Readable.from(inTurn(stored.read(start, end)), { objectMode: false, highWaterMark: 1 }));
  }

  async function* inTurn(pieces: AsyncIterable<Buffer> | Iterable<Buffer>): AsyncGenerator<Buffer> {
    try {
      for await (const piece of pieces) {
        await turns.pass();
        yield piece;
      }
    } catch (error) {
      tellOperators(error);
    }
  }

  /** A ramdisk can only ask again: what the disk of the image store has spoiled is for those who can mend it. */
  function tellOperators(error: unknown): never {
    log.error({ err: error }, 'a stored image cannot be sent');
    throw error;
  }
}

const params = Type.Object({ digest: Type.String({ pattern: '^[0-9a-f]{64}$' }) });
