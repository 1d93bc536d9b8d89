import type { Server as HttpsServer } from 'node:https';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

import type { Clock, Millis } from '../../appliance/kernel/clock.ts';
import { SECOND } from '../../appliance/kernel/clock.ts';
import { asRackstartError } from '../../appliance/kernel/errors.ts';
import { RateLimit } from '../rate-limit.ts';
import type { Mac } from '../boot-client.ts';
import type { Timeline, TimelineOwner } from '../timeline.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The name of the route on the timeline; without one its requests are not told of. */
    seen?: string;
  }
}

/** What a handler says of its request, for the timeline. */
interface Remark {
  /** Whose it is, when the request names its machine. */
  readonly mac?: Mac;
  readonly name?: string;
  readonly facts?: Facts;
  /** What the ramdisk said by it: told instead of the request that carried it. */
  readonly said?: { readonly name: string; readonly facts: Facts };
  /** Nothing came of it that is worth an entry. */
  readonly untold?: boolean;
}

type Facts = Readonly<Record<string, unknown>>;

interface Begun {
  readonly at: Millis;
  readonly from: string;
  /** Bytes that the connection had sent before. */
  readonly sent: number;
}

/**
 * Tells the timeline of every request: when its answer was out (or the client gone), its status, bytes and time.
 * Kernel, ramdisk and image are asked for without a name: they are of the machine that has the client's address reserved.
 */
export class Witness {
  readonly #timeline: Timeline;
  readonly #clock: Clock;
  readonly #remarks = new WeakMap<FastifyRequest, Remark>();
  readonly #peers = new WeakMap<FastifyRequest, string>();
  readonly #distrusted: RateLimit;

  constructor(timeline: Timeline, clock: Clock) {
    this.#timeline = timeline;
    this.#clock = clock;
    this.#distrusted = new RateLimit(clock, SECOND, MOST_A_SECOND);
  }

  /**
   * Tells of handshakes that a client breaks off by an alert (RFC 8446 §6.2): a ramdisk that does not believe our certificate never
   * comes to say so.
   */
  watchHandshakes(server: HttpsServer): void {
    const callers = new WeakMap<Socket, string>();
    server.on('connection', (socket: Socket) => callers.set(socket, plainAddress(socket.remoteAddress ?? '')));
    server.on('tlsClientError', ({ reason }: Error & { reason?: string }, socket: WrappedSocket) => {
      const [, alert] = /\balert ([a-z ]+)$/.exec(reason ?? '') ?? [];
      const from = socket._parent && callers.get(socket._parent);
      if (alert === undefined || from === undefined || !this.#distrusted.allows(from)) return;
      const detail = { from, alert };
      this.#timeline.seen({ address: from }, { at: this.#clock.now(), source: 'http', name: 'tls-refused', detail });
    });
  }

  watch(app: FastifyInstance): void {
    app.addHook('onRequest', (request, reply, done) => {
      const { socket } = request.raw;
      // A socket forgets its peer when it is destroyed, which may be before the answer is ready.
      const from = plainAddress(socket.remoteAddress ?? '');
      this.#peers.set(request, from);
      const begun = { at: this.#clock.now(), from, sent: socket.bytesWritten };
      // `close` comes for answers that nobody waited for too; Fastify's own onResponse does not.
      reply.raw.once('close', () => {
        this.#tell(request, reply, socket, begun);
      });
      done();
    });
    app.addHook('onError', (request, _reply, error, done) => {
      const { facts } = this.#remarks.get(request) ?? {};
      this.remark(request, { facts: { ...facts, code: asRackstartError(error).code } });
      done();
    });
  }

  /** Adds to the entry of this request. */
  remark(request: FastifyRequest, remark: Remark): void {
    this.#remarks.set(request, { ...this.#remarks.get(request), ...remark });
  }

  /** Where the request came from, also when that connection is gone. */
  peer(request: FastifyRequest): string {
    return this.#peers.get(request) ?? '';
  }

  #tell(request: FastifyRequest, reply: FastifyReply, socket: Socket, begun: Begun): void {
    const { mac, name, facts, said, untold } = this.#remarks.get(request) ?? {};
    const route = name ?? request.routeOptions.config.seen;
    if (route === undefined || untold === true) return;
    const owner: TimelineOwner = mac ?? { address: begun.from };
    const at = this.#clock.now();
    const ms = at - begun.at;
    if (said !== undefined) {
      this.#timeline.seen(owner, { at, source: 'ramdisk', name: said.name, detail: { ...said.facts, ms } });
      return;
    }
    const whole = reply.raw.writableFinished;
    const status = reply.statusCode;
    this.#timeline.seen(owner, {
      at,
      source: 'http',
      name: status < 400 ? route : `${route}-refused`,
      detail: {
        from: begun.from,
        status,
        bytes: whole ? Number(reply.getHeader('content-length') ?? 0) : socket.bytesWritten - begun.sent,
        ms,
        ...(whole ? {} : { cut: true }),
        ...facts,
      },
    });
  }
}

/** Node keeps the TCP socket here; by the time of the alert TLS itself may have forgotten its peer. */
type WrappedSocket = TLSSocket & { readonly _parent?: Socket };

// Of one address. A ramdisk asks every 3 s.
const MOST_A_SECOND = 5;

/** An IPv4 address as itself where a dual-stack socket shows it mapped (RFC 4291 §2.5.5.2). */
export function plainAddress(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/i, '');
}
