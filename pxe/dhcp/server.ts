import type { RemoteInfo, Socket } from 'node:dgram';

import type { Clock, Millis } from '../../appliance/kernel/clock.ts';
import { MINUTE, SECOND } from '../../appliance/kernel/clock.ts';
import { asRackstartError, hasCode } from '../../appliance/kernel/errors.ts';
import type { Log } from '../../appliance/kernel/log.ts';
import type { Service } from '../../appliance/kernel/service.ts';
import type { BootClient } from '../boot-client.ts';
import type { BootDirector } from '../boot-plan.ts';
import type { Timeline } from '../timeline.ts';
import type { BootAnswer, BootServices } from './boot-answer.ts';
import { bootAnswer } from './boot-answer.ts';
import { inSameNetwork } from './ipv4.ts';
import type { Binding, LeaseBook } from './lease-book.ts';
import type { MessageType } from './options.ts';
import { encodePacket, NO_ADDRESS } from './packet.ts';
import { RateLimit } from './rate-limit.ts';
import type { Reply } from './reply.ts';
import { informReply, leaseReply, nakReply } from './reply.ts';
import type { Request } from './request.ts';
import { readRequest, requestFacts } from './request.ts';
import { Sparingly } from './sparingly.ts';

/** The network behind one interface, and our address on it. */
export interface DhcpNetwork {
  readonly device: string;
  readonly serverAddress: string;
  readonly prefixLength: number;
}

export interface DhcpServerOptions {
  readonly network: DhcpNetwork;
  /** Binds to the device alone; see `openDeviceSocket`. */
  readonly openSocket: (options: { device: string; port: number }) => Socket;
  readonly leases: LeaseBook;
  readonly director: Pick<BootDirector, 'decide'>;
  /** The TFTP name of the loader for a client architecture (RFC 4578 §2.1). */
  readonly loaderFor: BootServices['loaderFor'];
  /** `http://10.77.0.1:8080`, no slash at the end. */
  readonly httpBase: string;
  readonly timeline: Timeline;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * DHCP (RFC 2131) for one interface. Each datagram is one `#serve`: it is read, told to the timeline, and
 * answered by its message's own method, which asks the lease book, and the director what a boot client shall do. There
 * is at most one reply. Whatever goes wrong on the way ends that datagram and nothing else; the client sends it again.
 */
export class DhcpServer implements Service {
  readonly name: string;
  readonly #network: DhcpNetwork;
  readonly #openSocket: DhcpServerOptions['openSocket'];
  readonly #leases: LeaseBook;
  readonly #director: DhcpServerOptions['director'];
  readonly #services: BootServices;
  readonly #timeline: Timeline;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #inFlight = new Set<Promise<void>>();
  readonly #perMac: RateLimit;
  readonly #dropped: Sparingly;
  readonly #failed: Sparingly;
  readonly #poolEmpty: Sparingly;

  constructor(options: DhcpServerOptions) {
    const { network, clock, httpBase, loaderFor } = options;
    this.name = `dhcp ${network.device}`;
    this.#network = network;
    this.#openSocket = options.openSocket;
    this.#leases = options.leases;
    this.#director = options.director;
    this.#services = { serverAddress: network.serverAddress, httpBase, loaderFor };
    this.#timeline = options.timeline;
    this.#clock = clock;
    this.#log = options.log.child({ service: 'dhcp', device: network.device });
    this.#perMac = new RateLimit(clock, SECOND, MOST_A_SECOND);
    this.#dropped = new Sparingly(clock, SECOND);
    this.#failed = new Sparingly(clock, SECOND);
    this.#poolEmpty = new Sparingly(clock, MINUTE);
  }

  async run(signal: AbortSignal): Promise<void> {
    const socket = this.#openSocket({ device: this.#network.device, port: SERVER_PORT });
    // An interface that goes down says so here, once; the socket hears again when it is back.
    socket.on('error', (error) => this.#log.warn({ err: error }, 'the DHCP socket reported an error'));
    socket.on('message', (bytes, from) => this.#accept(bytes, from, socket));
    this.#log.info({ address: this.#network.serverAddress }, 'serving DHCP');
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
    const request = this.#read(bytes);
    if (typeof request === 'string') {
      this.#drop(request, from);
      return;
    }
    this.#seen(request, request.type, this.#clock.now(), requestFacts(request));
    const answer = await this.#answer(request);
    if (answer === undefined) return;
    // Stamped before it is sent: the client's next packet may be here before the send is known to be done.
    const at = this.#clock.now();
    await send(socket, answer.reply);
    this.#seen(request, answer.type, at, { ...answer.facts, to: answer.reply.address });
  }

  #read(bytes: Buffer): Request | string {
    const request = readRequest(bytes);
    if (typeof request === 'string') return request;
    // A relay elsewhere asks for addresses that we do not have.
    const { giaddr } = request.packet;
    if (giaddr !== NO_ADDRESS && !this.#isOurs(giaddr)) return 'a relay of another network';
    return this.#perMac.allows(request.client.mac) ? request : 'too many requests of one client';
  }

  #answer(request: Request): Promise<Answer | undefined> {
    switch (request.type) {
      case 'discover':
        return this.#discover(request);
      case 'request':
        return this.#request(request);
      case 'decline':
        return this.#decline(request);
      case 'release':
        return this.#release(request);
      case 'inform':
        return this.#inform(request);
    }
  }

  async #discover(request: Request): Promise<Answer | undefined> {
    const binding = await this.#leases.offer(request.leaseClient);
    return binding && this.#lease('offer', request, binding);
  }

  /** RFC 2131 §4.3.2: the fields that are set tell in which state the client is. */
  async #request(request: Request): Promise<Answer | undefined> {
    const { packet, serverId, leaseClient } = request;
    const selecting = serverId !== undefined;
    if (selecting && serverId !== this.#network.serverAddress) {
      await this.#leases.withdraw(leaseClient);
      return undefined;
    }
    // Selecting and rebooting clients name their address in option 50, renewing and rebinding ones in ciaddr.
    const address = request.requested ?? packet.ciaddr;
    if (address === NO_ADDRESS) return undefined;
    if (!this.#isOurs(address)) return this.#nak(request, address, 'that address is of another network');
    const bound = await this.#leases.bind(leaseClient, address);
    if (bound.kind === 'bound') return this.#lease('ack', request, bound.binding);
    if (bound.kind === 'elsewhere') return this.#nak(request, address, 'that address is not yours');
    // Another server may know this client; but one that selected us waits for our word.
    return selecting ? this.#nak(request, address, 'that offer has expired') : undefined;
  }

  async #decline({ client, leaseClient, serverId, requested }: Request): Promise<undefined> {
    if (serverId !== this.#network.serverAddress || requested === undefined) return;
    this.#log.warn({ mac: client.mac, address: requested }, 'a client found its address in use by somebody else');
    await this.#leases.decline(leaseClient, requested);
  }

  async #release({ packet, leaseClient, serverId }: Request): Promise<undefined> {
    if (serverId !== this.#network.serverAddress || packet.ciaddr === NO_ADDRESS) return;
    await this.#leases.release(leaseClient, packet.ciaddr);
  }

  async #inform({ packet, leaseClient }: Request): Promise<Answer | undefined> {
    const address = packet.ciaddr;
    if (!this.#isOurs(address)) return undefined;
    const reply = informReply(packet, await this.#leases.parameters(leaseClient), this.#network.serverAddress);
    return { type: 'ack', reply, facts: { address } };
  }

  async #lease(type: 'offer' | 'ack', { client, packet }: Request, binding: Binding): Promise<Answer> {
    const decision = bootsFromNetwork(client) ? await this.#director.decide(client) : undefined;
    const boot = bootAnswer(client, decision, this.#services);
    const reply = leaseReply(type, packet, { client, binding, boot, serverAddress: this.#network.serverAddress });
    return { type, reply, facts: { address: binding.address, decision: decision?.verb, boot: publicName(boot) } };
  }

  #nak({ packet }: Request, address: string, why: string): Answer {
    return { type: 'nak', reply: nakReply(packet, why, this.#network.serverAddress), facts: { address, why } };
  }

  #seen({ client: { mac } }: Request, name: MessageType, at: Millis, facts: Facts): void {
    const detail = Object.fromEntries(Object.entries(facts).filter(([, value]) => value !== undefined));
    this.#timeline.seen(mac, { at, source: 'dhcp', name, detail });
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

  #isOurs(address: string): boolean {
    return inSameNetwork(address, this.#network.serverAddress, this.#network.prefixLength);
  }
}

type Facts = Readonly<Record<string, string | number | undefined>>;

interface Answer {
  readonly type: MessageType;
  readonly reply: Reply;
  /** What the timeline may tell of it. */
  readonly facts: Facts;
}

const SERVER_PORT = 67;
// Far above what a healthy rack keeps in flight; beyond it, answers would come after their clients had stopped waiting.
const MOST_IN_FLIGHT = 512;
// Of one MAC. A whole boot is ten packets or so; a spoofer shall not fill the timeline of the machine it plays.
const MOST_A_SECOND = 20;

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

function bootsFromNetwork({ kind }: BootClient): boolean {
  return kind !== 'os';
}

// A script's URL carries a token: it is named, never shown.
function publicName(boot: BootAnswer): string | undefined {
  switch (boot.kind) {
    case 'loader':
      return boot.file;
    case 'loader-url':
      return boot.url;
    case 'script':
      return 'script';
    case 'none':
      return undefined;
  }
}

function send(socket: Socket, { packet, address, port }: Reply): Promise<void> {
  const bytes = encodePacket(packet);
  return new Promise((resolve, reject) => {
    socket.send(bytes, port, address, (error) => (error === null ? resolve() : reject(error)));
  });
}
