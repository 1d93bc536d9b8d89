import type { Socket } from 'node:dgram';

import type { Clock } from '../../appliance/kernel/clock.ts';
import { SECOND } from '../../appliance/kernel/clock.ts';
import type { Log } from '../../appliance/kernel/log.ts';
import type { Service } from '../../appliance/kernel/service.ts';
import type { BootClient, Mac } from '../boot-client.ts';
import type { BootDirector } from '../boot-plan.ts';
import type { Timeline } from '../timeline.ts';
import type { BootServices } from './boot-answer.ts';
import { bootAnswer, publicName } from './boot-answer.ts';
import { inSameNetwork } from './ipv4.ts';
import type { Binding, LeaseBook } from './lease-book.ts';
import { NO_ADDRESS } from './packet.ts';
import type { Answer } from './port.ts';
import { DhcpPort } from './port.ts';
import type { RelayAgents, ServedNetwork } from './relay.ts';
import { informReply, leaseReply, nakReply } from './reply.ts';
import type { Request } from './request.ts';
import { Sparingly } from '../sparingly.ts';

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
  /** Relays of other networks; without one only the device's own network is served. */
  readonly relays?: RelayAgents | undefined;
  readonly director: Pick<BootDirector, 'decide'>;
  /** The TFTP name of the loader for a client architecture (RFC 4578 §2.1). */
  readonly loaderFor: BootServices['loaderFor'];
  /** `http://10.77.0.1:8080`, no slash at the end. */
  readonly httpBase: string;
  /** Told of a client that took another server's offer. */
  readonly onOtherServer?: ((client: Mac, server: string) => void) | undefined;
  readonly timeline: Timeline;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * DHCP (RFC 2131) for one interface, and for the networks whose relays are listed. What `DhcpPort` has read is answered
 * by its message's own method, which asks the lease book of the client's network, and the director what a boot client
 * shall do. There is at most one reply.
 */
export class DhcpServer implements Service {
  readonly name: string;
  readonly #port: DhcpPort;
  readonly #serverAddress: string;
  readonly #director: DhcpServerOptions['director'];
  readonly #services: BootServices;
  readonly #onOtherServer: DhcpServerOptions['onOtherServer'];
  readonly #log: Log;
  readonly #declined: Sparingly;

  constructor(options: DhcpServerOptions) {
    const { network, leases, relays, openSocket, httpBase, loaderFor, timeline, clock } = options;
    const { device, serverAddress, prefixLength } = network;
    this.name = `dhcp ${device}`;
    this.#serverAddress = serverAddress;
    this.#director = options.director;
    this.#onOtherServer = options.onOtherServer;
    this.#services = { serverAddress, httpBase, loaderFor };
    this.#log = options.log.child({ service: 'dhcp', device });
    // Anybody can decline anything, under a new MAC each time.
    this.#declined = new Sparingly(clock, SECOND);
    this.#port = new DhcpPort({
      device,
      port: SERVER_PORT,
      serverAddress,
      openSocket,
      network: { leases, contains: (address) => inSameNetwork(address, serverAddress, prefixLength) },
      relays,
      answer: (request, servedNetwork) => this.#answer(request, servedNetwork),
      timeline,
      clock,
      log: this.#log,
    });
  }

  run(signal: AbortSignal): Promise<void> {
    return this.#port.run(signal);
  }

  #answer(request: Request, network: ServedNetwork): Promise<Answer | undefined> {
    switch (request.type) {
      case 'discover':
        return this.#discover(request, network);
      case 'request':
        return this.#request(request, network);
      case 'decline':
        return this.#decline(request, network);
      case 'release':
        return this.#release(request, network);
      case 'inform':
        return this.#inform(request, network);
    }
  }

  async #discover(request: Request, { leases }: ServedNetwork): Promise<Answer | undefined> {
    const binding = await leases.offer(request.leaseClient);
    return binding && this.#lease('offer', request, binding);
  }

  /** RFC 2131 §4.3.2: the fields that are set tell in which state the client is. */
  async #request(request: Request, network: ServedNetwork): Promise<Answer | undefined> {
    const { packet, serverId, leaseClient } = request;
    const selecting = serverId !== undefined;
    if (selecting && serverId !== this.#serverAddress) {
      this.#onOtherServer?.(request.client.mac, serverId);
      await network.leases.withdraw(leaseClient);
      return undefined;
    }
    // Selecting and rebooting clients name their address in option 50, renewing and rebinding ones in ciaddr.
    const address = request.requested ?? packet.ciaddr;
    if (address === NO_ADDRESS) return undefined;
    if (!network.contains(address)) return this.#nak(request, address, 'that address is of another network');
    const bound = await network.leases.bind(leaseClient, address);
    if (bound.kind === 'bound') return this.#lease('ack', request, bound.binding);
    if (bound.kind === 'elsewhere') return this.#nak(request, address, 'that address is not yours');
    // Another server may know this client; but one that selected us waits for our word.
    return selecting ? this.#nak(request, address, 'that offer has expired') : undefined;
  }

  async #decline({ client, leaseClient, serverId, requested }: Request, { leases }: ServedNetwork): Promise<undefined> {
    if (serverId !== this.#serverAddress || requested === undefined) return;
    this.#declined.say((more) => {
      const facts = { mac: client.mac, address: requested, more };
      this.#log.warn(facts, 'a client found its address in use by somebody else');
    });
    await leases.decline(leaseClient, requested);
  }

  async #release({ packet, leaseClient, serverId }: Request, { leases }: ServedNetwork): Promise<undefined> {
    if (serverId !== this.#serverAddress || packet.ciaddr === NO_ADDRESS) return;
    await leases.release(leaseClient, packet.ciaddr);
  }

  async #inform({ packet, leaseClient }: Request, network: ServedNetwork): Promise<Answer | undefined> {
    const address = packet.ciaddr;
    if (!network.contains(address)) return undefined;
    const reply = informReply(packet, await network.leases.parameters(leaseClient), this.#serverAddress);
    return { type: 'ack', reply, facts: { address } };
  }

  async #lease(type: 'offer' | 'ack', { client, packet }: Request, binding: Binding): Promise<Answer> {
    const decision = bootsFromNetwork(client) ? await this.#director.decide(client) : undefined;
    const boot = bootAnswer(client, decision, this.#services);
    const reply = leaseReply(type, packet, { client, binding, boot, serverAddress: this.#serverAddress });
    const why = decision?.verb === 'ignore' ? decision.why : undefined;
    const facts = { address: binding.address, decision: decision?.verb, why, boot: publicName(boot) };
    return { type, reply, facts };
  }

  #nak({ packet }: Request, address: string, why: string): Answer {
    return { type: 'nak', reply: nakReply(packet, why, this.#serverAddress), facts: { address, why } };
  }
}

const SERVER_PORT = 67;

function bootsFromNetwork({ kind }: BootClient): boolean {
  return kind !== 'os';
}
