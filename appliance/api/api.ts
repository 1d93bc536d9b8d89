import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import websocket from '@fastify/websocket';
import fastify from 'fastify';
import type {
  FastifyBaseLogger,
  FastifyInstance,
  RawReplyDefaultExpression,
  RawRequestDefaultExpression,
  RawServerDefault,
} from 'fastify';
import type { AddressInfo } from 'node:net';

import type { ImageStore } from '../../images/image-store.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Log } from '../kernel/log.ts';
import type { Service } from '../kernel/service.ts';
import type { AdmitDeps } from '../requests/admit.ts';
import { callerOf } from './auth.ts';
import { imageRoutes } from './images.ts';
import type { InventoryRouteDeps } from './inventory.ts';
import { inventoryRoutes } from './inventory.ts';
import { liveRoutes } from './live.ts';
import type { MachineRouteDeps } from './machines.ts';
import { machineRoutes } from './machines.ts';
import { errorOf, problemOf } from './problem.ts';
import { serverRoutes } from './servers.ts';

export type Api = FastifyInstance<
  RawServerDefault,
  RawRequestDefaultExpression,
  RawReplyDefaultExpression,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>;

export interface ApiDeps extends AdmitDeps, MachineRouteDeps, InventoryRouteDeps {
  readonly images: ImageStore;
  readonly log: Log;
}

export interface ApiOptions {
  readonly host: string;
  /** 0: one that is free; `address` tells. */
  readonly port: number;
}

const SECOND = 1_000;

/** The public API under /api/v1, its OpenAPI 3.1 document and its pages under /docs. */
export class ApiServer implements Service {
  readonly name = 'api';
  readonly #deps: ApiDeps;
  readonly #options: ApiOptions;
  readonly #listening = Promise.withResolvers<AddressInfo>();

  constructor(deps: ApiDeps, options: ApiOptions) {
    this.#deps = deps;
    this.#options = options;
    // Nobody has to wait for it.
    this.#listening.promise.catch(() => undefined);
  }

  /** Where it listens, once it does. */
  get listening(): Promise<AddressInfo> {
    return this.#listening.promise;
  }

  async run(signal: AbortSignal): Promise<void> {
    const app = await buildApi(this.#deps);
    try {
      await app.listen(this.#options);
      this.#listening.resolve(app.server.address() as AddressInfo);
      await new Promise<void>((resolve) => {
        if (signal.aborted) resolve();
        signal.addEventListener('abort', () => resolve(), { once: true });
      });
    } catch (error) {
      this.#listening.reject(error);
      throw error;
    } finally {
      await app.close();
    }
  }
}

/** The API without a socket: for `run`, and for tests that inject requests. */
export async function buildApi(deps: ApiDeps): Promise<FastifyInstance> {
  const { store, apiKeyHmac, log } = deps;
  const app = fastify({
    bodyLimit: 256 * 1024,
    // A client that sends its request byte by byte holds a socket and nothing else, and that not for long.
    requestTimeout: 60 * SECOND,
    connectionTimeout: 0,
    forceCloseConnections: true,
    ajv: { customOptions: { allErrors: true, removeAdditional: false, coerceTypes: false, useDefaults: true } },
  });
  app.setErrorHandler(async (thrown, request, reply) => {
    const error = errorOf(thrown);
    if (error.status >= 500)
      log.error({ error: thrown, method: request.method, route: request.routeOptions.url }, 'request failed');
    return reply.code(error.status).send(problemOf(error));
  });
  app.setNotFoundHandler(async (_request, reply) => {
    const error = new RackstartError('not-found', 'There is no such route.');
    return reply.code(error.status).send(problemOf(error));
  });
  app.decorateRequest('caller');

  await app.register(websocket, { options: { maxPayload: 1024 } });
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Rackstart', version: '1', description: 'From an API call to SSH.' },
      components: { securitySchemes: { key: { type: 'http', scheme: 'bearer' } } },
      security: [{ key: [] }],
    },
  });
  await app.register(swaggerUi, { routePrefix: '/docs' });
  await app.register(
    async (scope) => {
      scope.addHook('onRequest', async (request) => {
        request.caller = await callerOf(request, store.read, apiKeyHmac);
      });
      const api = scope.withTypeProvider<TypeBoxTypeProvider>();
      serverRoutes(api, deps);
      machineRoutes(api, deps);
      inventoryRoutes(api, deps);
      imageRoutes(api, deps.images);
      liveRoutes(api, deps.events);
    },
    { prefix: '/api/v1' },
  );
  return app;
}
