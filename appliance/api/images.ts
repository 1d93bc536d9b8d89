import { Readable } from 'node:stream';
import type { FastifyRequest } from 'fastify';
import { Type } from 'typebox';

import type { ImageStore } from '../../images/image-store.ts';
import { deleteImage, findImage, listImages, setDeprecated } from '../../images/image-records.ts';
import type { EventMap } from '../events/catalogue.ts';
import type { EventLog } from '../events/event-log.ts';
import type { Clock } from '../kernel/clock.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { ImageRow } from '../store/schema.ts';
import type { Store, Tx } from '../store/store.ts';
import { doneBy, tenantOf } from './auth.ts';
import { declared } from './image-schemas.ts';
import { Id, IdParams, MaybeTimestamp, Timestamp, iso, maybeIso, problems, strict } from './schemas.ts';
import type { Api } from './typed-api.ts';

export interface ImageRouteDeps {
  readonly images: ImageStore;
  readonly store: Store;
  readonly events: EventLog;
  readonly clock: Clock;
}

const Image = Type.Object({
  id: Id,
  tenant: Type.Union([Id, Type.Null()], { description: 'whose it is; null: for everyone' }),
  name: Type.String(),
  version: Type.String(),
  sha256: Type.String({ description: 'of the file that was sent' }),
  sourceFormat: Type.Union([Type.String(), Type.Null()], { description: 'of the file that was sent' }),
  digest: Type.String({ description: 'of what is stored: its name in plans and to booting machines' }),
  bytes: Type.Integer(),
  rawBytes: Type.Integer(),
  partitionTable: Type.Union([Type.Literal('gpt'), Type.Literal('mbr'), Type.Null()]),
  rootPartition: Type.Integer(),
  rootFs: Type.String(),
  createdAt: Timestamp,
  deprecatedAt: MaybeTimestamp,
});

const tags = ['images'];

export function imageRoutes(api: Api, deps: ImageRouteDeps): void {
  addRoute(api, deps);
  readRoutes(api, deps);
  changeRoutes(api, deps);
}

function addRoute(api: Api, { images, events }: ImageRouteDeps): void {
  // The body is the image itself: it goes to the store as it comes, never through memory.
  api.addContentTypeParser('application/zstd', (_request, payload, done) => done(null, payload));
  const { name, version, sha256, rootPartition, kernelArgs } = declared;
  api.post(
    '/images',
    {
      bodyLimit: Number.MAX_SAFE_INTEGER,
      config: { right: 'catalogue:write', longBody: true },
      schema: {
        tags,
        summary: 'Add a raw disk image compressed with zstd, for everyone, in one body',
        consumes: ['application/zstd'],
        querystring: Type.Object({ name, version, sha256, rootPartition, kernelArgs }, strict),
        response: { 201: Image, ...problems },
      },
    },
    async (request, reply) => {
      const { body } = request;
      if (!(body instanceof Readable))
        throw new RackstartError('request.invalid', 'The body is the image, as application/zstd.');
      const by = doneBy(request);
      const declaration = { kernelArgs: '', ...request.query, tenantId: null, format: 'raw+zstd' } as const;
      const image = await images.add(declaration, body, async (tx, { id, name, version }, isNew) => {
        const data = { kind: 'image', id, name: `${name}:${version}` } as const;
        if (isNew) await events.append(tx, 'inventory.added', { key: id, ...by, data });
      });
      return reply.code(201).send(present(image));
    },
  );
}

function readRoutes(api: Api, { store }: ImageRouteDeps): void {
  api.get(
    '/images',
    {
      config: { right: 'catalogue:read' },
      schema: {
        tags,
        summary: "List images: everyone's, and one's own tenant's",
        response: { 200: Type.Object({ images: Type.Array(Image) }), ...problems },
      },
    },
    async ({ caller }) => ({ images: (await listImages(store.read, tenantOf(caller))).map(present) }),
  );
  api.get(
    '/images/:id',
    {
      config: { right: 'catalogue:read' },
      schema: { tags, summary: 'Show an image', params: IdParams, response: { 200: Image, ...problems } },
    },
    async ({ caller, params }) => present(await findImage(store.read, tenantOf(caller), params.id)),
  );
}

function changeRoutes(api: Api, { store, events, clock }: ImageRouteDeps): void {
  const tell = (tx: Tx, request: FastifyRequest, image: ImageRow, to: EventMap['image.changed']['to']) => {
    const { id, tenant_id, name, version } = image;
    const about = { key: id, ...(tenant_id !== null && { tenantId: tenant_id }), ...doneBy(request) };
    return events.append(tx, 'image.changed', { ...about, data: { imageId: id, name, version, to } });
  };
  const both = [
    { path: 'deprecate', to: 'deprecated', summary: 'Have an image not ordered any more; what runs keeps it' },
    { path: 'undeprecate', to: 'in use', summary: 'Have an image ordered again' },
  ] as const;
  for (const { path, to, summary } of both) {
    api.post(
      `/images/:id/${path}`,
      {
        config: { right: 'images:write' },
        schema: { tags, summary, params: IdParams, response: { 204: Type.Null(), ...problems } },
      },
      async (request, reply) => {
        const { id } = request.params;
        const at = to === 'deprecated' ? clock.now() : null;
        await store.transaction(async (tx) => {
          const changed = await setDeprecated(tx, tenantOf(request.caller), id, at);
          if (changed !== undefined) await tell(tx, request, changed, to);
        });
        return reply.code(204).send(null);
      },
    );
  }
  api.delete(
    '/images/:id',
    {
      config: { right: 'images:write' },
      schema: {
        tags,
        summary: 'Delete an image that no server needs',
        params: IdParams,
        response: { 204: Type.Null(), ...problems },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      await store.transaction(async (tx) => {
        const about = { tenantId: tenantOf(request.caller), id, at: clock.now() };
        await tell(tx, request, await deleteImage(tx, store.dialect, about), 'deleted');
      });
      return reply.code(204).send(null);
    },
  );
}

function present(row: ImageRow) {
  return {
    id: row.id,
    tenant: row.tenant_id,
    name: row.name,
    version: row.version,
    sha256: row.source_sha256,
    sourceFormat: row.source_format,
    digest: row.sha256,
    bytes: row.bytes,
    rawBytes: row.raw_bytes,
    partitionTable: row.partition_table,
    rootPartition: row.root_partition,
    rootFs: row.root_fs,
    createdAt: iso(row.created_at),
    deprecatedAt: maybeIso(row.deprecated_at),
  };
}
