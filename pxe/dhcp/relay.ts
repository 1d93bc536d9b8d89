import type { Clock } from '../../appliance/kernel/clock.ts';
import { SECOND } from '../../appliance/kernel/clock.ts';
import type { LeaseBook } from './lease-book.ts';
import { readRelayAgent } from './options.ts';
import type { DhcpPacket } from './packet.ts';
import { NO_ADDRESS } from './packet.ts';
import { RateLimit } from '../rate-limit.ts';

/** A network whose clients are served: that of our own device, or one behind a relay. */
export interface ServedNetwork {
  readonly leases: LeaseBook;
  contains(address: string): boolean;
}

/** A relay that an operator has named: it says the truth about where a request came from. */
export interface TrustedRelay {
  /** Its address on its clients' network: giaddr. */
  readonly address: string;
  /** Where its datagrams come from, when not from that address: most relays send from the NIC that leads to us. */
  readonly from?: string;
}

export interface RelayAgentsOptions {
  readonly relays: readonly TrustedRelay[];
  /** The network that an address is in; undefined when no provisioning subnet holds it. */
  readonly networkOf: (address: string) => Promise<ServedNetwork | undefined>;
  readonly clock: Clock;
}

/** Which network a request came from, and from which switch port, where the relay says so: see `switchPort`. */
export interface Origin {
  readonly network: ServedNetwork;
  readonly port: string | undefined;
}

/** Why a listed relay is not believed. */
type Refused = string;

/**
 * The relays that are listed in the configuration (RFC 2131 §4.1, RFC 3046 §5). giaddr is a claim that any host can make, in a
 * datagram that anybody may send: it counts, and so does option 82, when the datagram came from the relay's own address.
 */
export class RelayAgents {
  readonly #listed: ReadonlyMap<string, string>;
  readonly #networkOf: RelayAgentsOptions['networkOf'];
  readonly #perRelay: RateLimit;

  constructor({ relays, networkOf, clock }: RelayAgentsOptions) {
    this.#listed = new Map(relays.map(({ address, from }) => [address, from ?? address]));
    this.#networkOf = networkOf;
    this.#perRelay = new RateLimit(clock, SECOND, MOST_A_SECOND);
  }

  /** Where a request is from that names a relay, or an address of another network; undefined when no listed relay brought it. */
  async origin(packet: DhcpPacket, from: string): Promise<Origin | Refused | undefined> {
    const { giaddr } = packet;
    if (giaddr === NO_ADDRESS) return this.#ofClient(packet.ciaddr, from);
    const sender = this.#listed.get(giaddr);
    if (sender === undefined) return undefined;
    if (sender !== from) return `it sends from ${sender}`;
    if (!this.#perRelay.allows(giaddr)) return 'too many requests of one relay';
    const { circuitId, remoteId, link } = readRelayAgent(packet.options);
    const network = await this.#networkOf(link ?? giaddr);
    if (network === undefined) return `no provisioning subnet holds ${link ?? giaddr}`;
    return { network, port: circuitId && switchPort(remoteId ?? giaddr, circuitId) };
  }

  // Who renews behind a relay sends us its request itself, from the address that it has (RFC 2131 §4.4.5).
  async #ofClient(ciaddr: string, from: string): Promise<Origin | undefined> {
    if (ciaddr !== from) return undefined;
    for (const relay of this.#listed.keys()) {
      const network = await this.#networkOf(relay);
      if (network?.contains(ciaddr) === true) return { network, port: undefined };
    }
    return undefined;
  }
}

/** A switch port as the inventory names it: the relay's remote id (or else its address), a slash, its circuit id. */
export function switchPort(relay: string, circuitId: string): string {
  return `${relay}/${circuitId}`;
}

// Some four times a room of 500 machines that all ask in the same second. One relay shall not take every other's turn.
const MOST_A_SECOND = 2_000;
