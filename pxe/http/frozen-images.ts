import type { OutgoingHttpHeaders } from 'node:http';

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';

import { RackstartError } from '../../appliance/kernel/errors.ts';
import type { Log } from '../../appliance/kernel/log.ts';
import type { FrozenSource, Stored } from '../../images/frozen-images.ts';
import { FOREVER, beginImmutable } from './immutable.ts';
import type { PieceSender } from './piece-sender.ts';
import type { Witness } from './witness.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** No firmware waits for it: what a ramdisk asks for again, and goes on with. */
    bulk?: boolean;
  }
}

export interface FrozenImageDeps {
  readonly frozen: FrozenSource;
  readonly sender: PieceSender;
  readonly witness: Witness;
  readonly log: Log;
}

/**
 * Maps, chunks and whole files of frozen images: public, named by what they hold, and the same for ever, so that any cache may
 * stand in front. A machine asks for hundreds of chunks, which its ramdisk tells of: the timeline has its map alone.
 */
export function registerFrozenImages(app: FastifyInstance, { frozen, sender, witness, log }: FrozenImageDeps): void {
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
  route('/chunk/:digest', CHUNK_TYPE, (sha256) => frozen.chunk(sha256));

  async function send(
    request: FastifyRequest,
    reply: FastifyReply,
    { stored, digest, type }: { stored: Stored; digest: string; type: string },
  ): Promise<FastifyReply> {
    const range = beginImmutable(request, reply, { bytes: stored.bytes, sha256: digest, type });
    reply.headers(FOREVER);
    if (range === undefined) return reply.send();
    const { start, end, partial } = range;
    if (partial) witness.remark(request, { facts: { range: `${start}-${end}` } });
    const begin = (): void => {
      reply.hijack();
      reply.raw.writeHead(reply.statusCode, reply.getHeaders() as OutgoingHttpHeaders);
    };
    await sender.send(reply.raw, begin, stored.read(start, end)).catch(tellOperators);
    return reply;
  }

  /** A ramdisk can only ask again: what the disk of the image store has spoiled is for those who can mend it. */
  function tellOperators(error: unknown): never {
    cannotBeSent(log, error);
    throw error;
  }
}

export const CHUNK_TYPE = 'application/zstd';

export function cannotBeSent(log: Log, error: unknown): void {
  log.error({ err: error }, 'a stored image cannot be sent');
}

const params = Type.Object({ digest: Type.String({ pattern: '^[0-9a-f]{64}$' }) });
