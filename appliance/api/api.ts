import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import websocket from '@fastify/websocket';
import fastify from 'fastify';
import type { FastifyInstance } from 'fastify';
import type { AddressInfo } from 'node:net';

import type { ImageStore } from '../../images/image-store.ts';
import { MINUTE } from '../kernel/clock.ts';
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
import type { TenantRouteDeps } from './tenants.ts';
import { tenantRoutes } from './tenants.ts';
import { schemaCompiler } from './validation.ts';

export interface ApiDeps extends AdmitDeps, MachineRouteDeps, InventoryRouteDeps, TenantRouteDeps {
  readonly images: ImageStore;
  readonly log: Log;
}

export interface ApiOptions {
  readonly host: string;
  /** 0: one that is free; `address` tells. */
  readonly port: number;
}

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
      await listen(app, this.#options);
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

async function listen(app: FastifyInstance, { host, port }: ApiOptions): Promise<void> {
  try {
    await app.listen({ host, port });
  } catch (cause) {
    throw new RackstartError('config.invalid', `The API can't listen on ${host}, port ${String(port)}.`, { cause });
  }
}

/** The API without a socket: for `run`, and for tests that inject requests. */
export async function buildApi(deps: ApiDeps): Promise<FastifyInstance> {
  const { store, apiKeyHmac, log } = deps;
  const app = fastify({
    bodyLimit: 256 * 1024,
    // No limit for a whole request: an image may be hours on its way. Headers have Node's own 60 s, and silence ends a
    // connection; it is longer than any handler works. WebSockets are exempt (ws lifts it from their sockets).
    requestTimeout: 0,
    connectionTimeout: 5 * MINUTE,
    forceCloseConnections: true,
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
  app.setValidatorCompiler(schemaCompiler());
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
      tenantRoutes(api, deps);
      imageRoutes(api, deps.images);
      liveRoutes(api, deps);
    },
    { prefix: '/api/v1' },
  );
  return app;
}
