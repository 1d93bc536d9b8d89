import type { Socket } from 'node:net';

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

import type { Clock, Millis } from '../../appliance/kernel/clock.ts';
import type { Mac } from '../boot-client.ts';
import type { Timeline } from '../timeline.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The name of the route on the timeline; without one its requests are not told of. */
    seen?: string;
  }
}

/** What a handler adds to the timeline entry of its request. */
interface Remark {
  mac?: Mac;
  name?: string;
  facts?: Readonly<Record<string, unknown>>;
}

interface Begun {
  readonly at: Millis;
  readonly from: string;
  /** Bytes that the connection had sent before. */
  readonly sent: number;
}

/**
 * Tells the timeline of every request: when its answer was out (or the client gone), its status, bytes and time.
 * Kernel, ramdisk and image are asked for without a name; whose they are is known from the address that the script
 * was written for and the claim came from.
 */
export class Witness {
  readonly #timeline: Timeline;
  readonly #clock: Clock;
  readonly #macs = new Map<string, Mac>();
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

  /** From now on requests from this address are this machine's. */
  bind(address: string, mac: Mac): void {
    this.#macs.delete(address);
    this.#macs.set(address, mac);
    const [oldest] = this.#macs.keys();
    if (this.#macs.size > MAX_ADDRESSES && oldest !== undefined) this.#macs.delete(oldest);
  }

  /** Where the request came from, also when that connection is gone. */
  peer(request: FastifyRequest): string {
    return this.#peers.get(request) ?? '';
  }

  #tell(request: FastifyRequest, reply: FastifyReply, socket: Socket, begun: Begun): void {
    const { mac = this.#macs.get(begun.from), name, facts } = this.#remarks.get(request) ?? {};
    const route = name ?? request.routeOptions.config.seen;
    if (mac === undefined || route === undefined) return;
    const at = this.#clock.now();
    const whole = reply.raw.writableFinished;
    const status = reply.statusCode;
    this.#timeline.seen(mac, {
      at,
      source: 'http',
      name: status < 400 ? route : `${route}-refused`,
      detail: {
        from: begun.from,
        status,
        bytes: whole ? Number(reply.getHeader('content-length') ?? 0) : socket.bytesWritten - begun.sent,
        ms: at - begun.at,
        ...(whole ? {} : { cut: true }),
        ...facts,
      },
    });
  }
}

const MAX_ADDRESSES = 65_536;

/** An IPv4 address as itself where a dual-stack socket shows it mapped (RFC 4291 §2.5.5.2). */
export function plainAddress(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/i, '');
}
