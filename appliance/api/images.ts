import { Readable } from 'node:stream';
import { Type } from 'typebox';

import type { ImageStore } from '../../images/image-store.ts';
import type { EventLog } from '../events/event-log.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { ImageRow } from '../store/schema.ts';
import type { Api } from './typed-api.ts';
import { doneBy } from './auth.ts';
import { Id, Name, Timestamp, iso, problems, strict } from './schemas.ts';

const Image = Type.Object({
  id: Id,
  name: Type.String(),
  version: Type.String(),
  sha256: Type.String({ description: 'of the file that was sent' }),
  digest: Type.String({ description: 'of what is stored: its name in plans and to booting machines' }),
  bytes: Type.Integer(),
  rawBytes: Type.Integer(),
  createdAt: Timestamp,
});

const tags = ['images'];

export function imageRoutes(api: Api, { images, events }: { images: ImageStore; events: EventLog }): void {
  // The body is the image itself: it goes to the store as it comes, never through memory.
  api.addContentTypeParser('application/zstd', (_request, payload, done) => done(null, payload));

  api.post(
    '/images',
    {
      bodyLimit: Number.MAX_SAFE_INTEGER,
      config: { right: 'catalogue:write', longBody: true },
      schema: {
        tags,
        summary: 'Add a raw disk image compressed with zstd',
        consumes: ['application/zstd'],
        querystring: Type.Object(
          {
            name: Name,
            version: Type.String({ pattern: '^[A-Za-z0-9._-]{1,64}$' }),
            sha256: Type.String({ pattern: '^[0-9a-fA-F]{64}$', description: 'of the compressed file' }),
            rootPartition: Type.Integer({ minimum: 1, maximum: 128 }),
            kernelArgs: Type.String({ maxLength: 512, pattern: '^[A-Za-z0-9_=,.:/@ -]*$' }),
          },
          strict,
        ),
        response: { 201: Image, ...problems },
      },
    },
    async (request, reply) => {
      const { body } = request;
      if (!(body instanceof Readable))
        throw new RackstartError('request.invalid', 'The body is the image, as application/zstd.');
      const by = doneBy(request);
      const image = await images.add(request.query, body, (tx, { id, name, version }) => {
        const data = { kind: 'image', id, name: `${name}:${version}` } as const;
        return events.append(tx, 'inventory.added', { key: id, ...by, data });
      });
      return reply.code(201).send(present(image));
    },
  );

  api.get(
    '/images',
    {
      config: { right: 'catalogue:read' },
      schema: {
        tags,
        summary: 'List images',
        response: { 200: Type.Object({ images: Type.Array(Image) }), ...problems },
      },
    },
    async () => ({ images: (await images.list()).map(present) }),
  );
}

function present({ id, name, version, sha256, source_sha256, bytes, raw_bytes, created_at }: ImageRow) {
  return {
    id,
    name,
    version,
    sha256: source_sha256 ?? sha256,
    digest: sha256,
    bytes,
    rawBytes: raw_bytes,
    createdAt: iso(created_at),
  };
}
