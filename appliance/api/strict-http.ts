import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

import { RackstartError } from '../kernel/errors.ts';
import { problemOf } from './problem.ts';

/**
 * What Node answers by itself, and without a body, in our words: a request without Host (RFC 9112 §3.2; `requireHostHeader`
 * must be off), and one that expects what we do not do (RFC 9110 §10.1.1).
 */
export function strictHttp(app: FastifyInstance): void {
  app.addHook('onRequest', async ({ raw: { httpVersion, headers } }) => {
    if (httpVersion === '1.1' && headers.host === undefined) {
      throw new RackstartError('request.invalid', 'HTTP/1.1 wants a Host header.');
    }
  });
  app.server.on('checkExpectation', (_request, response) => {
    const error = new RackstartError('request.invalid', 'Nothing can be expected but 100-continue.');
    const body = JSON.stringify(problemOf(error));
    const length = Buffer.byteLength(body);
    const headers = {
      'content-type': 'application/json; charset=utf-8',
      'content-length': length,
      connection: 'close',
    };
    response.writeHead(417, headers).end(body);
  });
}

/**
 * Ends a connection that was to become a WebSocket and is refused, behind the answer: Node has let go of it, so that nobody
 * would read from it or time it out. The plugin does so as well, but not where the request never comes to its hooks.
 */
export function endRefusedUpgrade({ raw: { headers, socket } }: FastifyRequest, reply: FastifyReply): void {
  if (headers.upgrade !== undefined) reply.raw.once('finish', () => socket.destroySoon());
}

/** An answer to what matches no route: with the methods that there are at this path, if there is any. */
export function noSuchRoute(app: FastifyInstance): (request: FastifyRequest, reply: FastifyReply) => RackstartError {
  const methodsAt = new Map<string, { pattern: RegExp; methods: Set<string> }>();
  app.addHook('onRoute', ({ url, method }) => {
    const known = methodsAt.get(url) ?? { pattern: patternOf(url), methods: new Set() };
    methodsAt.set(url, known);
    for (const each of [method].flat()) known.methods.add(each);
  });
  return (request, reply) => {
    const path = request.url.split('?')[0] ?? '';
    const fitting = [...methodsAt.values()].filter(({ pattern }) => pattern.test(path));
    const allowed = [...new Set(fitting.flatMap(({ methods }) => [...methods]))].sort().join(', ');
    if (allowed === '') return new RackstartError('not-found', 'There is no such route.');
    // RFC 9110 §15.5.6.
    void reply.header('allow', allowed);
    return new RackstartError('request.method', `${request.method} can not be done here: ${allowed} can.`);
  };
}

function patternOf(url: string): RegExp {
  const parts = url
    .split('/')
    .map((part) => (part.startsWith(':') ? '[^/]+' : part === '*' ? '.*' : part.replaceAll('.', '\\.')));
  return new RegExp(`^${parts.join('/')}$`);
}
