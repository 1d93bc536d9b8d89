import type { RemoteInfo, Socket } from 'node:dgram';

import type { Clock, Millis } from '../../appliance/kernel/clock.ts';
import { MINUTE, SECOND } from '../../appliance/kernel/clock.ts';
import { asRackstartError, hasCode } from '../../appliance/kernel/errors.ts';
import type { Log } from '../../appliance/kernel/log.ts';
import type { SeenPacket, Timeline } from '../timeline.ts';
import type { MessageType } from './options.ts';
import { encodePacket, NO_ADDRESS } from './packet.ts';
import { RateLimit } from '../rate-limit.ts';
import type { RelayAgents, ServedNetwork } from './relay.ts';
import type { Reply } from './reply.ts';
import { withoutToken } from './reply.ts';
import type { Request } from './request.ts';
import { readRequest, requestFacts } from './request.ts';
import { Sparingly } from '../sparingly.ts';

export interface DhcpPortOptions {
  readonly device: string;
  readonly port: number;
  /** Ours on the device. */
  readonly serverAddress: string;
  /** Binds to the device alone; see `openDeviceSocket`. */
  readonly openSocket: (options: { device: string; port: number }) => Socket;
  /** The network of the device itself. */
  readonly network: ServedNetwork;
  /** Who may bring requests from elsewhere; nobody unless told. */
  readonly relays?: RelayAgents | undefined;
  /** At most one reply to a request; undefined for silence. */
  readonly answer: (request: Request, network: ServedNetwork, from: RemoteInfo) => Promise<Answer | undefined>;
  readonly timeline: Timeline;
  readonly clock: Clock;
  readonly log: Log;
}

export interface Answer {
  readonly type: MessageType;
  readonly reply: Reply;
  /** What the timeline may tell of it. */
  readonly facts: Facts;
}

interface Sent {
  readonly bytes: Buffer;
  readonly at: Millis;
}

export type Facts = Readonly<Record<string, string | number | boolean | undefined>>;

/**
 * A UDP port on which DHCP is spoken. Each datagram is one `#serve`: it is read, placed in a network, told to the
 * timeline and answered. Whatever goes wrong on the way ends that datagram and nothing else; the client sends it again.
 */
export class DhcpPort {
  readonly #options: DhcpPortOptions;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #timeline: Timeline;
  readonly #inFlight = new Set<Promise<void>>();
  readonly #perMac: RateLimit;
  readonly #dropped: Sparingly;
  readonly #refusedRelay: Sparingly;
  readonly #refusedTold: RateLimit;
  readonly #failed: Sparingly;
  readonly #poolEmpty: Sparingly;

  constructor(options: DhcpPortOptions) {
    const { clock } = options;
    this.#options = options;
    this.#clock = clock;
    this.#log = options.log;
    this.#timeline = options.timeline;
    this.#perMac = new RateLimit(clock, SECOND, MOST_A_SECOND);
    this.#dropped = new Sparingly(clock, SECOND);
    this.#refusedRelay = new Sparingly(clock, MINUTE);
    this.#refusedTold = new RateLimit(clock, SECOND, MOST_A_SECOND);
    this.#failed = new Sparingly(clock, SECOND);
    this.#poolEmpty = new Sparingly(clock, MINUTE);
  }

  async run(signal: AbortSignal): Promise<void> {
    const { device, port, serverAddress: address, openSocket } = this.#options;
    const socket = openSocket({ device, port });
    // An interface that goes down says so here, once; the socket hears again when it is back.
    socket.on('error', (error) => this.#log.warn({ err: error }, 'the DHCP socket reported an error'));
    socket.on('message', (bytes, from) => this.#accept(bytes, from, socket));
    this.#log.info({ address, port }, 'serving DHCP');
    await aborted(signal);
    socket.removeAllListeners('message');
    await Promise.all(this.#inFlight);
    socket.close();
  }

  #accept(bytes: Buffer, from: RemoteInfo, socket: Socket): void {
    if (this.#inFlight.size >= MOST_IN_FLIGHT) {
      this.#drop('too many requests at once', from);
      return;
    }
    const serving = this.#serve(bytes, from, socket)
      .catch((error: unknown) => this.#fail(error))
      .finally(() => this.#inFlight.delete(serving));
    this.#inFlight.add(serving);
  }

  async #serve(bytes: Buffer, from: RemoteInfo, socket: Socket): Promise<void> {
    const read = readRequest(bytes);
    if (typeof read === 'string') {
      this.#drop(read, from);
      return;
    }
    if (!this.#perMac.allows(read.client.mac)) {
      this.#drop('too many requests of one client', from);
      return;
    }
    const { network } = this.#options;
    const placed = isLocal(read, network) ? { network, port: undefined } : await this.#brought(read, from);
    if (placed === undefined) return;
    const request = placed.port === undefined ? read : { ...read, client: { ...read.client, port: placed.port } };
    const at = this.#clock.now();
    // Strangers have no timeline, and a storm of them must not push out what waits for it: the lease book knows them by now.
    const isTold = () => !placed.network.leases.isStranger(request.client.mac);
    const answer = await this.#options.answer(request, placed.network, from).finally(() => {
      if (isTold()) this.#seen(request, request.type, at, requestFacts(request), this.#received(bytes, from));
    });
    if (answer === undefined) return;
    const sent = await this.#reply(answer, socket);
    if (isTold()) this.#told(request, answer, sent);
  }

  /** A request that a relay brought, or that a client behind one sent us itself. Undefined when it was dropped. */
  async #brought(request: Request, from: RemoteInfo) {
    const { relays, network } = this.#options;
    const { giaddr } = request.packet;
    const origin = await relays?.origin(request.packet, from.address);
    if (typeof origin === 'object') return origin;
    // What no listed relay brought is of this segment, whatever its client claims; so is a relay that stands on it.
    const isHere = giaddr === NO_ADDRESS || network.contains(giaddr);
    if (origin === undefined && isHere) return { network, port: undefined };
    const reason = origin ?? 'it is not listed in the configuration';
    this.#tellRefused(request, { relay: giaddr, from: from.address, reason });
    this.#refusedRelay.say((more) => {
      this.#log.warn({ relay: giaddr, from: from.address, reason, more }, 'a relay was refused');
    });
    return undefined;
  }

  // Whose request it was is not known here; a flood by strangers must not push out what waits to be written.
  #tellRefused({ client: { mac }, packet: { giaddr } }: Request, detail: Facts): void {
    if (!this.#refusedTold.allows(giaddr)) return;
    this.#timeline.seen(mac, { at: this.#clock.now(), source: 'dhcp', name: 'relay-refused', detail });
  }

  async #reply({ reply }: Answer, socket: Socket): Promise<Sent> {
    const bytes = encodePacket(reply.packet);
    // Stamped before it is sent: the client's next packet may be here before the send is known to be done.
    const at = this.#clock.now();
    await send(socket, bytes, reply);
    return { bytes, at };
  }

  #told(request: Request, { type, reply, facts }: Answer, { bytes, at }: Sent): void {
    const { serverAddress, port } = this.#options;
    const { packet, address } = reply;
    const told = withoutToken(packet);
    this.#seen(
      request,
      type,
      at,
      { ...facts, to: address },
      {
        from: `${serverAddress}:${port}`,
        to: `${address}:${reply.port}`,
        bytes: told === packet ? bytes : encodePacket(told),
      },
    );
  }

  // The kernel does not tell where a datagram was sent to: who has no address yet can only have broadcast it.
  #received(bytes: Buffer, { address, port }: RemoteInfo): SeenPacket {
    const to = address === NO_ADDRESS ? '255.255.255.255' : this.#options.serverAddress;
    return { from: `${address}:${port}`, to: `${to}:${this.#options.port}`, bytes };
  }

  #seen({ client: { mac } }: Request, name: MessageType, at: Millis, facts: Facts, packet: SeenPacket): void {
    const detail = Object.fromEntries(Object.entries(facts).filter(([, value]) => value !== undefined));
    this.#timeline.seen(mac, { at, source: 'dhcp', name, detail, packet });
  }

  #drop(reason: string, from: RemoteInfo): void {
    this.#dropped.say((more) => this.#log.debug({ reason, from: from.address, more }, 'a datagram was dropped'));
  }

  #fail(error: unknown): void {
    if (hasCode(error, 'address.pool-empty')) {
      this.#poolEmpty.say((more) => {
        const { code, hint, details } = error;
        this.#log.error({ code, details, hint, more }, 'no address is left for a new DHCP client');
      });
      return;
    }
    this.#failed.say((more) => {
      this.#log.warn({ err: error, code: asRackstartError(error).code, more }, 'a DHCP request could not be answered');
    });
  }
}

// Far above what a healthy rack keeps in flight; beyond it, answers would come after their clients had stopped waiting.
const MOST_IN_FLIGHT = 512;
// Of one MAC, or of one relay that is refused. A whole boot is ten packets or so; a spoofer shall not fill the timeline of the
// machine it plays.
const MOST_A_SECOND = 20;

function isLocal({ packet: { giaddr, ciaddr } }: Request, network: ServedNetwork): boolean {
  return giaddr === NO_ADDRESS && (ciaddr === NO_ADDRESS || network.contains(ciaddr));
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

function send(socket: Socket, bytes: Buffer, { address, port }: Reply): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.send(bytes, port, address, (error) => (error === null ? resolve() : reject(error)));
  });
}
