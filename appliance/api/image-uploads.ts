import { Readable } from 'node:stream';
import type { FastifyReply } from 'fastify';
import { Type } from 'typebox';

import type { ImageImports } from '../../images/image-imports.ts';
import type { ImageStore } from '../../images/image-store.ts';
import type { Upload, UploadStore } from '../../images/ingest/upload.ts';
import type { EventLog } from '../events/event-log.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Store } from '../store/store.ts';
import { doneBy, tenantOf } from './auth.ts';
import { declarationOf, declared, Format } from './image-schemas.ts';
import { Id, IdParams, Timestamp, iso, problems, strict } from './schemas.ts';
import type { Api } from './typed-api.ts';

export interface ImageUploadRouteDeps {
  readonly uploads: UploadStore;
  readonly imports: ImageImports;
  readonly images: ImageStore;
  readonly store: Store;
  readonly events: EventLog;
}

const Bytes = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER, description: 'of the whole file' });
const offset = Type.Integer({ minimum: 0, description: 'so many bytes are here: where the next part begins' });

const ImageUpload = Type.Object({
  id: Id,
  tenant: Type.Union([Id, Type.Null()]),
  name: Type.String(),
  version: Type.String(),
  format: Type.String(),
  sha256: Type.String(),
  bytes: Type.Integer(),
  received: offset,
  expiresAt: Timestamp,
});

const tags = ['images'];
const PART = 'application/offset+octet-stream';

/** Files in parts, each at the offset where the one before ended (as tus 1.0.0 does it). */
export function imageUploadRoutes(api: Api, deps: ImageUploadRouteDeps): void {
  beginRoute(api, deps);
  readRoutes(api, deps);
  partRoute(api, deps);
  endRoutes(api, deps);
}

function beginRoute(api: Api, { uploads, imports, images, store, events }: ImageUploadRouteDeps): void {
  api.post(
    '/images/uploads',
    {
      config: { right: 'images:write' },
      schema: {
        tags,
        summary:
          'Announce a file that becomes an image: for everyone when an operator sends it, else for its own tenant',
        body: Type.Object({ ...declared, format: Format, bytes: Bytes }, strict),
        response: {
          201: Type.Object({ id: Id, received: offset, bytes: Bytes, expiresAt: Timestamp }, strict),
          ...problems,
        },
      },
    },
    async (request, reply) => {
      const { bytes: total, ...rest } = request.body;
      const declaration = declarationOf(rest, tenantOf(request.caller));
      const { tenantId, name, version, format } = declaration;
      await images.requireFree(declaration);
      const otherwise = async () => (tenantId === null ? 0 : imports.used(tenantId));
      const { id, received, bytes, expiresAt } = await uploads.begin({ ...declaration, bytes: total }, otherwise);
      await store.transaction((tx) => {
        const about = { key: id, ...(tenantId !== null && { tenantId }), ...doneBy(request) };
        return events.append(tx, 'image.upload-begun', {
          ...about,
          data: { uploadId: id, name, version, format, bytes },
        });
      });
      return reply.code(201).send({ id, received, bytes, expiresAt: iso(expiresAt) });
    },
  );
}

function readRoutes(api: Api, { uploads }: ImageUploadRouteDeps): void {
  api.get(
    '/images/uploads',
    {
      config: { right: 'catalogue:read' },
      schema: {
        tags,
        summary: "List uploads that are under way: one's own tenant's",
        response: { 200: Type.Object({ uploads: Type.Array(ImageUpload) }), ...problems },
      },
    },
    async ({ caller }) => ({ uploads: (await uploads.list(tenantOf(caller))).map(present) }),
  );
  api.get(
    '/images/uploads/:id',
    {
      config: { right: 'catalogue:read' },
      schema: {
        tags,
        summary: 'How far an upload is; a HEAD tells it in Upload-Offset and Upload-Length alone',
        params: IdParams,
        response: { 200: ImageUpload, ...problems },
      },
    },
    async ({ caller, params }, reply) => {
      const upload = await uploads.find(tenantOf(caller), params.id);
      return offsetOf(reply, upload).header('cache-control', 'no-store').send(present(upload));
    },
  );
}

function partRoute(api: Api, { uploads }: ImageUploadRouteDeps): void {
  api.addContentTypeParser(PART, (_request, payload, done) => done(null, payload));
  api.patch(
    '/images/uploads/:id',
    {
      bodyLimit: Number.MAX_SAFE_INTEGER,
      config: { right: 'images:write', longBody: true },
      schema: {
        tags,
        summary: 'Send what follows Upload-Offset, all or a part; the answer tells how far it is then',
        consumes: [PART],
        params: IdParams,
        headers: Type.Object({ 'upload-offset': offset }),
        response: { 204: Type.Null(), ...problems },
      },
    },
    async (request, reply) => {
      const { body, params, caller, headers } = request;
      if (!(body instanceof Readable)) throw new RackstartError('request.invalid', `The body is the part, as ${PART}.`);
      const upload = await uploads.append(tenantOf(caller), params.id, headers['upload-offset'], body);
      return offsetOf(reply, upload).code(204).send(null);
    },
  );
}

function endRoutes(api: Api, { uploads, imports, store, events }: ImageUploadRouteDeps): void {
  api.post(
    '/images/uploads/:id/complete',
    {
      config: { right: 'images:write' },
      schema: {
        tags,
        summary: 'Make an image of a whole upload',
        params: IdParams,
        response: { 202: Type.Object({ import: Id }, strict), ...problems },
      },
    },
    async (request, reply) => {
      const asker = { store, ...doneBy(request) };
      return reply
        .code(202)
        .send({ import: await imports.complete(tenantOf(request.caller), request.params.id, asker) });
    },
  );
  api.delete(
    '/images/uploads/:id',
    {
      config: { right: 'images:write' },
      schema: {
        tags,
        summary: 'Cancel an upload',
        params: IdParams,
        response: { 204: Type.Null(), ...problems },
      },
    },
    async (request, reply) => {
      const { id, tenantId, name, version } = await uploads.cancel(tenantOf(request.caller), request.params.id);
      await store.transaction((tx) => {
        const about = { key: id, ...(tenantId !== null && { tenantId }), ...doneBy(request) };
        return events.append(tx, 'image.upload-cancelled', { ...about, data: { uploadId: id, name, version } });
      });
      return reply.code(204).send(null);
    },
  );
}

function offsetOf(reply: FastifyReply, { received, bytes }: Upload): FastifyReply {
  return reply.header('upload-offset', String(received)).header('upload-length', String(bytes));
}

function present({ id, tenantId, name, version, format, sha256, bytes, received, expiresAt }: Upload) {
  return { id, tenant: tenantId, name, version, format, sha256, bytes, received, expiresAt: iso(expiresAt) };
}
