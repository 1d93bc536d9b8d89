import type { FastifyInstance, FastifyRequest } from 'fastify';
import { BlockList, isIPv6 } from 'node:net';

import type { Clock, Millis } from '../kernel/clock.ts';
import { MINUTE, SECOND } from '../kernel/clock.ts';
import type { ConnectionCaps } from '../kernel/connection-caps.ts';
import { capConnections } from '../kernel/connection-caps.ts';
import { RackstartError } from '../kernel/errors.ts';
import { problemOf } from './problem.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The body may be hours on its way, once its sender has proven who it is: silence alone ends it. */
    longBody?: boolean;
  }
}

/** How long a client of the API may take, and how many connections. */
export interface ApiLimits extends ConnectionCaps {
  /** For the headers, from the first byte of a request or, where none comes, of the connection. */
  readonly headers: Millis;
  /** For the body, from the headers. */
  readonly body: Millis;
  /** From the headers until we give up on our own answer. */
  readonly answer: Millis;
}

export const apiLimits: ApiLimits = {
  headers: 10 * SECOND,
  // 256 KiB, the most that a body but an image may have, at 70 kbit/s.
  body: 30 * SECOND,
  // No handler works for long. A database that hangs is given up by itself where it can be (PostgreSQL, 35 s); a disk can not.
  answer: MINUTE,
  // Longer than any handler works. WebSockets are exempt (ws lifts it from their sockets): they are pinged.
  idle: 5 * MINUTE,
  connections: 4096,
  connectionsPerAddress: 128,
};

/** Fastify's options for these limits. */
export function timeouts({ headers, idle }: ApiLimits) {
  return {
    // No limit of Node's for a whole request: it knows no exception, and an image may be hours on its way.
    requestTimeout: 0,
    connectionTimeout: idle,
    // How often Node looks for headers that take too long.
    http: { headersTimeout: headers, connectionsCheckingInterval: Math.min(headers, 5 * SECOND) },
  };
}

/** Ends who takes longer, or holds more, than it may. `proxies` are addresses and CIDRs that speak for many clients. */
export function limitClients(app: FastifyInstance, limits: ApiLimits, proxies: readonly string[], clock: Clock): void {
  capConnections(app.server, limits, blockList(proxies));
  const waits = new WeakMap<FastifyRequest, AbortController>();
  app.addHook('onRequest', async (request, reply) => {
    if (request.routeOptions.config.longBody) return;
    const answered = new AbortController();
    reply.raw.once('close', () => answered.abort(ANSWERED));
    const giveUp = () => {
      if (!reply.sent && !reply.raw.headersSent) void reply.send(noAnswer());
    };
    clock.sleepUntil(clock.now() + limits.answer, answered.signal).then(giveUp, () => undefined);
  });
  app.addHook('onRequest', async (request, reply) => {
    const { raw } = request;
    if (raw.complete || !hasBody(request)) return;
    const arrived = new AbortController();
    waits.set(request, arrived);
    raw.once('end', () => arrived.abort()).once('close', () => arrived.abort());
    const late = () => {
      // It was refused long ago, and still sends what nobody reads.
      if (reply.sent) raw.destroy();
      else {
        const error = new RackstartError('request.invalid', 'The body did not arrive in time.');
        void reply.code(408).header('connection', 'close').send(problemOf(error));
      }
    };
    clock.sleepUntil(clock.now() + limits.body, arrived.signal).then(late, () => undefined);
  });
  app.addHook('preParsing', async (request) => {
    if (request.routeOptions.config.longBody) waits.get(request)?.abort();
  });
}

// Made once: an abort without a reason makes a DOMException with its stack, 45 µs each.
const ANSWERED = new Error('the request is answered');

function noAnswer(): RackstartError {
  const message = 'The appliance waits for its database, or its disk. What was asked may be done all the same.';
  return new RackstartError('store.unavailable', message, { details: { commit: 'unknown' } });
}

function hasBody({ headers }: FastifyRequest): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
}

function blockList(entries: readonly string[]): BlockList {
  const list = new BlockList();
  for (const entry of entries) {
    const [address = '', length] = entry.split('/');
    const family = isIPv6(address) ? 'ipv6' : 'ipv4';
    if (length === undefined) list.addAddress(address, family);
    else list.addSubnet(address, Number(length), family);
  }
  return list;
}
