import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import websocket from '@fastify/websocket';
import fastify from 'fastify';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { AddressInfo } from 'node:net';

import type { ImageImports } from '../../images/image-imports.ts';
import type { ImageStore } from '../../images/image-store.ts';
import type { UploadStore } from '../../images/ingest/upload.ts';
import { clientErrorHandler } from '../../pxe/http/errors.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Guards } from '../kernel/guard.ts';
import type { PoolView } from '../pool/pool-keeper.ts';
import type { Log } from '../kernel/log.ts';
import type { Service } from '../kernel/service.ts';
import type { BootDeadlines } from '../machines/boot-deadlines.ts';
import type { AdmitDeps } from '../requests/admit.ts';
import { auditRoutes } from './audit.ts';
import { accessEntryRoutes } from './access-entries.ts';
import type { AcceptRuleRouteDeps } from './accept-rules.ts';
import { acceptRuleRoutes } from './accept-rules.ts';
import { authorize, callerOf, everyRouteSaysWhoMay } from './auth.ts';
import { bootRoutes } from './boots.ts';
import type { DiscoveredRouteDeps } from './discovered-machines.ts';
import { discoveredRoutes } from './discovered-machines.ts';
import { guardRoutes } from './guards.ts';
import { placementRoute } from './placement.ts';
import { namedPools, poolRoutes } from './pools.ts';
import { handoffRoutes } from './handoffs.ts';
import { rememberAnswers } from './idempotency.ts';
import { eventRoutes } from './events.ts';
import { imageImportRoutes } from './image-imports.ts';
import { imageUploadRoutes } from './image-uploads.ts';
import { imageRoutes } from './images.ts';
import type { InventoryRouteDeps } from './inventory.ts';
import { inventoryRoutes } from './inventory.ts';
import type { KeyRouteDeps } from './keys.ts';
import { keyRoutes } from './keys.ts';
import { leaseRoutes } from './leases.ts';
import { liveRoutes } from './live.ts';
import type { MachineRouteDeps } from './machines.ts';
import { machineRoutes } from './machines.ts';
import type { ManifestRouteDeps } from './manifest.ts';
import { manifestRoutes } from './manifest.ts';
import type { Metrics } from './metrics.ts';
import { metricsRoute } from './metrics.ts';
import type { DeployTargets } from './performance.ts';
import { performanceRoutes } from './performance.ts';
import { errorOf, problemOf } from './problem.ts';
import { projectRoutes } from './projects.ts';
import { quotaRoutes } from './quotas.ts';
import type { Rate } from './rate-limit.ts';
import { CallerLimits } from './rate-limit.ts';
import { serverRoutes } from './servers.ts';
import type { ApiLimits } from './slow-clients.ts';
import { apiLimits, limitClients, timeouts } from './slow-clients.ts';
import { endRefusedUpgrade, noSuchRoute, strictHttp } from './strict-http.ts';
import { stuckRoutes } from './stuck.ts';
import { orphanRoutes } from './sweep.ts';
import type { TenantRouteDeps } from './tenants.ts';
import { tenantRoutes } from './tenants.ts';
import { userRoutes } from './users.ts';
import { answerCompiler, BODY_LIMIT, refuseUnknown, schemaCompiler } from './validation.ts';

export interface ApiDeps
  extends
    AdmitDeps,
    MachineRouteDeps,
    ManifestRouteDeps,
    DiscoveredRouteDeps,
    AcceptRuleRouteDeps,
    InventoryRouteDeps,
    TenantRouteDeps,
    KeyRouteDeps {
  readonly images: ImageStore;
  readonly uploads: UploadStore;
  readonly imports: ImageImports;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly guards: Guards;
  readonly deadlines: BootDeadlines;
  readonly pools: () => readonly PoolView[];
}

/** What operators may set. */
export interface ApiSettings {
  readonly rateLimit: Rate;
  /** Addresses and CIDRs that say for whom they ask (X-Forwarded-For), and hold connections for many. */
  readonly trustedProxies: readonly string[];
  readonly targets: DeployTargets;
  readonly limits?: Partial<ApiLimits>;
}

export interface ApiOptions extends ApiSettings {
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
    const app = await buildApi(this.#deps, this.#options);
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
export async function buildApi(deps: ApiDeps, options: ApiSettings): Promise<FastifyInstance> {
  const { store, apiKeyHmac, clock, log, metrics } = deps;
  const { rateLimit, trustedProxies } = options;
  const limits = { ...apiLimits, ...options.limits };
  const proof = { read: store.read, hmacKey: apiKeyHmac, clock };
  const callers = new CallerLimits(rateLimit, clock, (by) => metrics.limited(by));
  const answer = (thrown: unknown, request: FastifyRequest, reply: FastifyReply) => {
    const error = errorOf(thrown);
    const hungUp = request.raw.destroyed && !request.raw.complete;
    // The store tells of its outages itself, in fewer lines than there are callers.
    if (error.status >= 500 && error.code !== 'store.unavailable' && !hungUp)
      log.error({ error: thrown, method: request.method, route: request.routeOptions.url }, 'request failed');
    const { retryAfter = error.status === 503 ? RETRY_AFTER : undefined } = error.details;
    if (typeof retryAfter === 'number') void reply.header('retry-after', String(retryAfter));
    endRefusedUpgrade(request, reply);
    return reply.code(error.status).send(problemOf(error));
  };
  const timing = timeouts(limits);
  const app = fastify({
    ...timing,
    http: { ...timing.http, requireHostHeader: false },
    bodyLimit: BODY_LIMIT,
    trustProxy: [...trustedProxies],
    forceCloseConnections: true,
    clientErrorHandler,
    frameworkErrors: (error, request, reply) => void answer(error, request, reply),
  });
  app.setErrorHandler(async (thrown, request, reply) => answer(thrown, request, reply));
  const nothingThere = noSuchRoute(app);
  app.setNotFoundHandler(async (request, reply) => {
    callers.unknown(request);
    throw nothingThere(request, reply);
  });
  app.setValidatorCompiler(schemaCompiler());
  app.setSerializerCompiler(answerCompiler());
  // JSON, and what a route names: a text is neither.
  app.removeContentTypeParser('text/plain');
  strictHttp(app);
  app.decorateRequest('caller');
  everyRouteSaysWhoMay(app);
  metrics.watch(app);
  metrics.watchGuards(deps.guards);
  metrics.watchPools(() => namedPools(store.read, deps.pools()));
  limitClients(app, limits, trustedProxies, clock);

  await app.register(websocket, { options: { maxPayload: 1024 } });
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Rackstart', version: '1', description: 'From an API call to SSH.' },
      components: { securitySchemes: { key: { type: 'http', scheme: 'bearer' } } },
      security: [{ key: [] }],
    },
    // What a route asks for, as OpenAPI 3.1 tells the roles that a security scheme requires.
    transform: ({ schema, url, route }) => ({
      schema: { ...schema, security: [{ key: [String(route.config?.right)] }] },
      url,
    }),
  });
  await app.register(async (scope) => {
    scope.addHook('onRequest', async (request) => callers.unknown(request));
    scope.addHook('onRoute', (route) => {
      route.config = { ...route.config, right: 'public' };
    });
    await scope.register(swaggerUi, { routePrefix: '/docs' });
  });
  await app.register(async (scope) => {
    scope.addHook('onRequest', async (request) => {
      request.caller = await callers.identify(request, () => callerOf(request, proof));
      callers.known(request.caller.keyId);
      authorize(request);
    });
    metricsRoute(scope, metrics);
    await scope.register(async (api) => routes(api, { ...deps, store: rememberAnswers(api, deps) }, options), {
      prefix: '/api/v1',
    });
  });
  return app;
}

/** Seconds: long enough that callers who wait do no harm, short enough that nobody notices who comes back. */
const RETRY_AFTER = 5;

function routes(scope: FastifyInstance, deps: ApiDeps, { targets }: ApiSettings): void {
  deps.metrics.watchOrders(scope);
  refuseUnknown(scope);
  const api = scope.withTypeProvider<TypeBoxTypeProvider>();
  const { read } = deps.store;
  serverRoutes(api, { ...deps, times: deps.metrics });
  machineRoutes(api, deps);
  manifestRoutes(api, deps);
  discoveredRoutes(api, deps);
  acceptRuleRoutes(api, deps);
  inventoryRoutes(api, deps);
  leaseRoutes(api, { read: deps.store.read, clock: deps.clock });
  stuckRoutes(api, deps);
  guardRoutes(api, deps.guards);
  poolRoutes(api, deps.store, deps.pools);
  placementRoute(api, { read, clock: deps.clock });
  handoffRoutes(api, deps);
  accessEntryRoutes(api, deps);
  orphanRoutes(api, deps.store.read);
  tenantRoutes(api, deps);
  userRoutes(api, deps);
  projectRoutes(api, deps);
  quotaRoutes(api, deps);
  keyRoutes(api, deps);
  auditRoutes(api, { read });
  imageRoutes(api, deps);
  imageUploadRoutes(api, deps);
  imageImportRoutes(api, deps);
  bootRoutes(api, deps);
  eventRoutes(api, { read });
  liveRoutes(api, { ...deps, read });
  performanceRoutes(api, { ...deps, read, targets });
}
