import { Type } from 'typebox';

import type { ImageImport, ImageImports } from '../../images/image-imports.ts';
import type { Store } from '../store/store.ts';
import { doneBy, tenantOf } from './auth.ts';
import { declarationOf, declared, Format } from './image-schemas.ts';
import { Id, IdParams, MaybeTimestamp, Timestamp, iso, maybeIso, problems, strict } from './schemas.ts';
import type { Api } from './typed-api.ts';

export interface ImageImportRouteDeps {
  readonly imports: ImageImports;
  readonly store: Store;
}

const ImportState = Type.Object({
  id: Id,
  tenant: Type.Union([Id, Type.Null()]),
  name: Type.String(),
  version: Type.String(),
  state: Type.Union([Type.Literal('running'), Type.Literal('done'), Type.Literal('failed')]),
  stage: Type.Union([Type.String(), Type.Null()], {
    description:
      'waiting, fetching, hashing, converting, inspecting or freezing; where it failed; null once it is done',
  }),
  done: Type.Integer({ description: 'bytes of this stage' }),
  total: Type.Union([Type.Integer(), Type.Null()], { description: 'bytes of this stage; null where nobody knows' }),
  startedAt: Timestamp,
  endedAt: MaybeTimestamp,
  image: Type.Union([Id, Type.Null()], { description: 'what it became' }),
  error: Type.Union([Type.Object({ code: Type.String(), message: Type.String() }), Type.Null()]),
});

const tags = ['images'];

/** The long work of making an image of an upload, or of what is fetched. */
export function imageImportRoutes(api: Api, { imports, store }: ImageImportRouteDeps): void {
  api.post(
    '/images/imports',
    {
      config: { right: 'images:write' },
      schema: {
        tags,
        summary: 'Fetch an image by https, from a host that the configuration lists',
        body: Type.Object(
          { url: Type.String({ maxLength: 2048, pattern: '^https://[!-~]+$' }), ...declared, format: Format },
          strict,
        ),
        response: { 202: Type.Object({ import: Id }, strict), ...problems },
      },
    },
    async (request, reply) => {
      const { url, ...rest } = request.body;
      const declaration = declarationOf(rest, tenantOf(request.caller));
      return reply.code(202).send({ import: await imports.fetch(declaration, url, { store, ...doneBy(request) }) });
    },
  );
  api.get(
    '/images/imports',
    {
      config: { right: 'catalogue:read' },
      schema: {
        tags,
        summary: "List image imports, the newest first: one's own tenant's",
        querystring: Type.Object({ limit: Type.Integer({ minimum: 1, maximum: 1000, default: 100 }) }, strict),
        response: { 200: Type.Object({ imports: Type.Array(ImportState) }), ...problems },
      },
    },
    async ({ caller, query }) => ({ imports: (await imports.list(tenantOf(caller), query.limit)).map(present) }),
  );
  api.get(
    '/images/imports/:id',
    {
      config: { right: 'catalogue:read' },
      schema: {
        tags,
        summary: 'How far an image import is',
        params: IdParams,
        response: { 200: ImportState, ...problems },
      },
    },
    async ({ caller, params }) => present(await imports.find(tenantOf(caller), params.id)),
  );
  api.delete(
    '/images/imports/:id',
    {
      config: { right: 'images:write' },
      schema: {
        tags,
        summary: 'Stop an image import; nothing stays of it',
        params: IdParams,
        response: { 204: Type.Null(), ...problems },
      },
    },
    async (request, reply) => {
      await imports.stop(tenantOf(request.caller), request.params.id, { store, ...doneBy(request) });
      return reply.code(204).send(null);
    },
  );
}

function present(row: ImageImport) {
  const { id, tenant_id, name, version, state, progress, created_at, ended_at, image_id, failure } = row;
  const isRunning = state === 'running';
  return {
    ...{ id, tenant: tenant_id, name, version, state, stage: isRunning ? progress.stage : row.stage },
    ...{ done: isRunning ? progress.done : 0, total: isRunning ? progress.total : null },
    ...{ startedAt: iso(created_at), endedAt: maybeIso(ended_at), image: image_id },
    error: failure === null ? null : (JSON.parse(failure) as { code: string; message: string }),
  };
}
