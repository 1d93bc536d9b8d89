import type { Clock, Millis } from '../../appliance/kernel/clock.ts';
import { SECOND } from '../../appliance/kernel/clock.ts';
import type { Cidr } from '../../appliance/network/address-range.ts';
import { parseCidr } from '../../appliance/network/address-range.ts';
import type { SubnetRow } from '../../appliance/store/schema.ts';
import type { Reader } from '../../appliance/store/store.ts';
import type { LeaseBook } from './lease-book.ts';
import type { ServedNetwork } from './relay.ts';

export interface StoreNetworksOptions {
  readonly read: Reader;
  /** The lease book of a subnet; asked for once. */
  readonly open: (subnet: SubnetRow) => LeaseBook;
  readonly clock: Clock;
}

/** A subnet of the store. There is one lease book for each, whichever way its clients' requests come. */
export interface StoreNetwork extends ServedNetwork {
  readonly subnet: SubnetRow;
}

/** The provisioning subnets of the store. Operators add subnets while we run, and take none away. */
export class StoreNetworks {
  readonly #options: StoreNetworksOptions;
  readonly #networks = new Map<string, { cidr: Cidr; network: StoreNetwork }>();
  readonly #found = new Map<string, StoreNetwork>();
  #readAt: Millis = -Infinity;
  #reading: Promise<void> | undefined;

  constructor(options: StoreNetworksOptions) {
    this.#options = options;
  }

  /** The network that an address is in; undefined when no provisioning subnet holds it. */
  async of(address: string): Promise<StoreNetwork | undefined> {
    const known = this.#found.get(address);
    if (known !== undefined) return known;
    if (this.#find(address) === undefined) await this.#lookAgain();
    const found = this.#find(address);
    // Addresses of relays: there are few, unless one of them varies what it says.
    if (this.#found.size >= MOST_REMEMBERED) this.#found.clear();
    if (found !== undefined) this.#found.set(address, found);
    return found;
  }

  #find(address: string): StoreNetwork | undefined {
    for (const { cidr, network } of this.#networks.values()) if (cidr.contains(address)) return network;
    return undefined;
  }

  /** Once a second at most, however many ask. */
  #lookAgain(): Promise<void> {
    const { clock } = this.#options;
    const since = clock.now() - this.#readAt;
    if (since >= 0 && since < LOOK_EVERY) return this.#reading ?? Promise.resolve();
    this.#readAt = clock.now();
    this.#reading = this.#read().finally(() => (this.#reading = undefined));
    return this.#reading;
  }

  async #read(): Promise<void> {
    const { read, open } = this.#options;
    for (const subnet of await provisioningSubnets(read)) {
      if (this.#networks.has(subnet.id)) continue;
      const cidr = parseCidr(subnet.cidr);
      const network = { subnet, leases: open(subnet), contains: (address: string) => cidr.contains(address) };
      this.#networks.set(subnet.id, { cidr, network });
    }
  }
}

const LOOK_EVERY = SECOND;
const MOST_REMEMBERED = 1_000;

// The IPv4 subnets that machines boot in.
function provisioningSubnets(read: Reader): Promise<SubnetRow[]> {
  return read
    .selectFrom('subnets')
    .selectAll()
    .where('family', '=', 4)
    .where('role', 'in', ['provisioning', 'both'])
    .execute();
}
