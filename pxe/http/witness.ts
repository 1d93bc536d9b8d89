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

  constructor(timeline: Timeline, clock: Clock) {
    this.#timeline = timeline;
    this.#clock = clock;
  }

  watch(app: FastifyInstance): void {
    app.addHook('onRequest', (request, reply, done) => {
      const startedAt = this.#clock.now();
      const sentBefore = request.raw.socket.bytesWritten;
      // `close` comes for answers that nobody waited for too; Fastify's own onResponse does not.
      reply.raw.once('close', () => {
        this.#tell(request, reply, startedAt, sentBefore);
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
    const key = plainAddress(address);
    this.#macs.delete(key);
    this.#macs.set(key, mac);
    const [oldest] = this.#macs.keys();
    if (this.#macs.size > MAX_ADDRESSES && oldest !== undefined) this.#macs.delete(oldest);
  }

  #tell(request: FastifyRequest, reply: FastifyReply, startedAt: Millis, sentBefore: number): void {
    const { mac = this.#macs.get(plainAddress(request.ip)), name, facts } = this.#remarks.get(request) ?? {};
    const route = name ?? request.routeOptions.config.seen;
    if (mac === undefined || route === undefined) return;
    const at = this.#clock.now();
    const whole = reply.raw.writableFinished;
    const sent = whole ? Number(reply.getHeader('content-length') ?? 0) : request.raw.socket.bytesWritten - sentBefore;
    this.#timeline.seen(mac, {
      at,
      source: 'http',
      name: reply.statusCode < 400 ? route : `${route}-refused`,
      detail: {
        from: plainAddress(request.ip),
        status: reply.statusCode,
        bytes: sent,
        ms: at - startedAt,
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
