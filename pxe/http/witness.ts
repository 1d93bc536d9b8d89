import type { Socket } from 'node:net';

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

import type { Clock, Millis } from '../../appliance/kernel/clock.ts';
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

  constructor(timeline: Timeline, clock: Clock) {
    this.#timeline = timeline;
    this.#clock = clock;
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

/** An IPv4 address as itself where a dual-stack socket shows it mapped (RFC 4291 §2.5.5.2). */
export function plainAddress(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/i, '');
}
