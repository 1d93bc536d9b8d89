import type { RemoteInfo } from 'node:dgram';

import type { Clock } from '../../appliance/kernel/clock.ts';
import type { Log } from '../../appliance/kernel/log.ts';
import type { Service } from '../../appliance/kernel/service.ts';
import type { BootDirector } from '../boot-plan.ts';
import type { Timeline } from '../timeline.ts';
import type { BootServices } from './boot-answer.ts';
import { bootAnswer, publicName } from './boot-answer.ts';
import { NO_ADDRESS } from './packet.ts';
import type { Answer, DhcpPortOptions } from './port.ts';
import { DhcpPort } from './port.ts';
import type { RelayAgents, ServedNetwork } from './relay.ts';
import type { Reply } from './reply.ts';
import { proxyReply } from './reply.ts';
import type { Request } from './request.ts';

export interface ProxyDhcpOptions {
  readonly device: string;
  readonly serverAddress: string;
  readonly openSocket: DhcpPortOptions['openSocket'];
  /** Where our clients are; another server gives its addresses. */
  readonly network: ServedNetwork;
  readonly relays?: RelayAgents | undefined;
  readonly director: Pick<BootDirector, 'decide'>;
  readonly loaderFor: BootServices['loaderFor'];
  readonly httpBase: string;
  readonly timeline: Timeline;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Proxy DHCP (PXE 2.1 §2.2.3, RFC 4578) beside a DHCP server that gives the addresses: known machines are told what to
 * boot, and nothing else is said. The offer holds the boot file already, which EDK2 and iPXE take from there; ROMs that
 * go by the book ask again on port 4011.
 */
export class ProxyDhcp implements Service {
  readonly name: string;
  readonly #options: ProxyDhcpOptions;
  readonly #services: BootServices;
  readonly #ports: readonly DhcpPort[];

  constructor(options: ProxyDhcpOptions) {
    const { device, serverAddress, httpBase, loaderFor } = options;
    this.name = `proxy-dhcp ${device}`;
    this.#options = options;
    this.#services = { serverAddress, httpBase, loaderFor };
    const log = options.log.child({ service: 'proxy-dhcp', device });
    this.#ports = [
      new DhcpPort({ ...options, log, port: DHCP_PORT, answer: (request) => this.#offer(request) }),
      new DhcpPort({ ...options, log, port: PXE_PORT, answer: (request, _, from) => this.#acknowledge(request, from) }),
    ];
  }

  async run(signal: AbortSignal): Promise<void> {
    await Promise.all(this.#ports.map((port) => port.run(signal)));
  }

  async #offer(request: Request): Promise<Answer | undefined> {
    // What follows is between the client and the server that it chose.
    return request.type === 'discover' ? this.#answer('offer', request) : undefined;
  }

  async #acknowledge(request: Request, { address, port }: RemoteInfo): Promise<Answer | undefined> {
    // PXE 2.1 §2.2.4 says REQUEST; older ROMs say INFORM.
    if (request.type !== 'request' && request.type !== 'inform') return undefined;
    const { ciaddr } = request.packet;
    return this.#answer('ack', request, { address: ciaddr === NO_ADDRESS ? address : ciaddr, port });
  }

  async #answer(
    type: 'offer' | 'ack',
    { client, packet }: Request,
    to?: Pick<Reply, 'address' | 'port'>,
  ): Promise<Answer | undefined> {
    if (client.kind === 'os') return undefined;
    const { director, serverAddress } = this.#options;
    const decision = await director.decide(client);
    const boot = bootAnswer(client, decision, this.#services);
    if (boot.kind === 'none') return undefined;
    const reply = { ...proxyReply(type, packet, boot, serverAddress), ...to };
    return { type, reply, facts: { proxy: true, decision: decision.verb, boot: publicName(boot) } };
  }
}

const DHCP_PORT = 67;
const PXE_PORT = 4011;
