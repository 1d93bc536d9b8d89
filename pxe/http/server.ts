import { createServer as createHttpServer } from 'node:http';
import type { Server as HttpServer, RequestListener, ServerOptions } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo, Server } from 'node:net';

import type { FastifyInstance } from 'fastify';
import { fastify } from 'fastify';

import type { Clock, Millis } from '../../appliance/kernel/clock.ts';
import { MINUTE, SECOND } from '../../appliance/kernel/clock.ts';
import type { ConnectionCaps } from '../../appliance/kernel/connection-caps.ts';
import { capConnections } from '../../appliance/kernel/connection-caps.ts';
import type { Log } from '../../appliance/kernel/log.ts';
import type { Service } from '../../appliance/kernel/service.ts';
import type { Turnstile } from '../../appliance/kernel/turnstile.ts';
import type { FrozenSource } from '../../images/frozen-images.ts';
import type { BootScripts } from '../../templates/boot-scripts.ts';
import type { AgentDesk, BootDirector } from '../boot-plan.ts';
import type { Timeline } from '../timeline.ts';
import { openAcceptor } from './acceptor.ts';
import { registerAgent } from './agent.ts';
import { registerBoot } from './boot.ts';
import type { BootCertificate } from './certificate.ts';
import { chunksFirst } from './chunks-first.ts';
import { clientErrorHandler, errorHandler, notFound } from './errors.ts';
import { registerFiles } from './files.ts';
import { registerFrozenImages } from './frozen-images.ts';
import { readForm } from './messages.ts';
import { PieceSender } from './piece-sender.ts';
import type { RamdiskFiles } from './ramdisk-files.ts';
import { registerScript } from './script.ts';
import { Witness } from './witness.ts';

export interface BootHttpOptions {
  /** Our address on the provisioning network, and the ports for what may travel in the clear and for all else; 0: any. */
  readonly listen: { readonly address: string; readonly httpPort: number; readonly httpsPort: number };
  readonly director: BootDirector;
  readonly agents: AgentDesk;
  readonly certificate: BootCertificate;
  readonly scripts: BootScripts;
  /** Boot loaders by name. */
  readonly loaders: ReadonlyMap<string, Buffer>;
  readonly ramdisk: RamdiskFiles;
  readonly frozen: FrozenSource;
  readonly timeline: Timeline;
  /** What comes by TLS passes it: ramdisks and agents ask again for minutes, firmware gives up after seconds. */
  readonly turnstile: Turnstile;
  /** What is sent of frozen images passes this one, piece by piece. */
  readonly imageTurns: Turnstile;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits?: Partial<HttpLimits>;
}

/** What one client, or all of them, may take; `idle` is longer than the director's patience with a long poll. */
export interface HttpLimits extends ConnectionCaps {
  /** For a TLS handshake, and for a whole request from its first byte, or from the connection's when none comes. */
  readonly request: Millis;
}

/**
 * The HTTP side of the boot plane: one server in the clear for what firmware can fetch (script, kernel, ramdisk, image),
 * one by TLS for everything that is worth something (claim, reports, files, agents).
 */
export class BootHttp implements Service {
  readonly name = 'boot-http';
  /** The ports, once both servers listen; rejects when one can't. */
  readonly ready: Promise<{ http: number; https: number }>;
  readonly #options: BootHttpOptions;
  readonly #limits: HttpLimits;
  readonly #listening = Promise.withResolvers<{ http: number; https: number }>();

  constructor(options: BootHttpOptions) {
    this.#options = options;
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.ready = this.#listening.promise;
    // Who awaits `run` learns of it there.
    this.ready.catch(() => undefined);
  }

  async run(signal: AbortSignal): Promise<void> {
    const { listen, director, agents, certificate, scripts, timeline, clock, log } = this.#options;
    const { loaders, ramdisk, frozen, turnstile, imageTurns } = this.#options;
    const witness = new Witness(timeline, clock);
    const images = { frozen, sender: new PieceSender(imageTurns), log };
    const clear = this.#server(createHttpServer(this.#timeouts()), witness, (fastify) => chunksFirst(images, fastify));
    const tlsServer = createHttpsServer({
      ...this.#timeouts(),
      cert: certificate.certificate,
      key: certificate.key.reveal(),
      minVersion: 'TLSv1.2',
      handshakeTimeout: this.#limits.request,
    });
    witness.watchHandshakes(tlsServer);
    const secure = this.#server(tlsServer, witness);
    registerScript(clear, {
      director,
      scripts,
      witness,
      httpPort: () => portOf(clear),
      httpsPort: () => portOf(secure),
    });
    registerFiles(clear, { loaders, ramdisk, witness });
    registerFrozenImages(clear, { ...images, witness });
    clear.addHook('onRequest', async ({ routeOptions }) => {
      if (routeOptions.config.bulk === true) return;
      turnstile.hold();
      imageTurns.hold();
    });
    secure.addHook('preHandler', () => turnstile.pass());
    registerBoot(secure, { director, witness, now: () => new Date(clock.now()), closing: signal });
    registerAgent(secure, agents);
    const acceptors: Server[] = [];
    try {
      const widely = { host: listen.address, port: listen.httpPort, backlog: BACKLOG, reusePort: true };
      await clear.listen(widely);
      while (acceptors.length < MORE_ACCEPTORS) acceptors.push(await openAcceptor(clear.server, BACKLOG));
      await secure.listen({ host: listen.address, port: listen.httpsPort, backlog: BACKLOG });
      const ports = { http: portOf(clear), https: portOf(secure) };
      log.info({ address: listen.address, ...ports }, 'boot http listens');
      this.#listening.resolve(ports);
      await aborted(signal);
    } catch (error) {
      this.#listening.reject(error);
      throw error;
    } finally {
      for (const acceptor of acceptors) acceptor.close();
      await Promise.all([clear.close(), secure.close()]);
    }
  }

  #timeouts(): ServerOptions {
    const { request } = this.#limits;
    return {
      requestTimeout: request,
      headersTimeout: request,
      // How often Node looks for requests that take too long.
      connectionsCheckingInterval: Math.min(request, 5 * SECOND),
      keepAliveTimeout: 5 * SECOND,
      maxHeaderSize: 8 * 1024,
    };
  }

  /** `listener` is given Fastify's, and may answer before it. */
  #server(
    server: HttpServer,
    witness: Witness,
    listener: (fastify: RequestListener) => RequestListener = (fastify) => fastify,
  ): FastifyInstance {
    const { log } = this.#options;
    const app = fastify({
      bodyLimit: 64 * 1024,
      logger: false,
      forceCloseConnections: true,
      return503OnClosing: false,
      exposeHeadRoutes: false,
      clientErrorHandler,
      frameworkErrors: errorHandler(log),
      ajv: { customOptions: { coerceTypes: false, removeAdditional: false, allErrors: true } },
      serverFactory: (handler) => server.on('request', listener(handler)),
    });
    capConnections(server, this.#limits);
    witness.watch(app);
    app.removeAllContentTypeParsers();
    app.addContentTypeParser(
      'application/x-www-form-urlencoded',
      { parseAs: 'string' },
      async (_request: unknown, body: string) => readForm(body),
    );
    app.addContentTypeParser('text/plain', { parseAs: 'string' }, async (_request: unknown, body: string) => body);
    app.setErrorHandler(errorHandler(log));
    app.setNotFoundHandler(notFound);
    return app;
  }
}

// Node's 511 overflowed when 1,000 machines booted at once: who finds no room tries again after a second. Linux takes no more
// than net.core.somaxconn, 4,096 by default.
const BACKLOG = 4_096;
// A rack asks for 200 scripts a second, of a loop that has less than 200 turns meanwhile. What comes by TLS waits at a turnstile anyway.
const MORE_ACCEPTORS = 3;

const DEFAULT_LIMITS: HttpLimits = {
  request: 10 * SECOND,
  idle: MINUTE,
  // A rack that boots at once: each machine has one connection to each server, an image stream included.
  connections: 4096,
  connectionsPerAddress: 64,
};

function portOf({ server }: FastifyInstance): number {
  return (server.address() as AddressInfo).port;
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
