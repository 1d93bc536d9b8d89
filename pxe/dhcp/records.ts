import { isIPv4 } from 'node:net';

import type { Clock, Millis } from '../../appliance/kernel/clock.ts';
import { HOUR, SECOND } from '../../appliance/kernel/clock.ts';
import { RackstartError } from '../../appliance/kernel/errors.ts';
import { parseCidr } from '../../appliance/network/address-range.ts';
import type { SubnetRow } from '../../appliance/store/schema.ts';
import type { Store } from '../../appliance/store/store.ts';
import type { Mac } from '../boot-client.ts';
import { Batched } from './batched.ts';
import { ipv4ToNumber, numberToIpv4 } from './ipv4.ts';
import type { Binding, Bound, LeaseBook, LeaseClient, NetworkParameters } from './lease-book.ts';
import { findClients } from './lease-rows.ts';
import type { AddressRange } from './lease-table.ts';
import { fenced, LEASE_TIME, LeaseTenure } from './lease-tenure.ts';

export interface StoreLeaseBookOptions {
  readonly store: Store;
  /** An IPv4 subnet that machines boot in. */
  readonly subnetId: string;
  readonly clock: Clock;
}

/**
 * Leases in the database. A known machine's reservation is a row of `addresses` and is only read, those of all clients
 * that ask at once by one query. Strangers' leases are rows of `leases`, one an address and one a client; one process
 * at a time writes those of a subnet, out of its memory: see `LeaseTenure`.
 */
export class StoreLeaseBook implements LeaseBook {
  readonly #options: StoreLeaseBookOptions;
  readonly #finding: Batched<Mac, Found>;
  #network: Network | undefined;
  #readAt: Millis = -Infinity;
  #leasing: Leasing | undefined;
  /** Of those who asked last. */
  readonly #strangers = new Set<Mac>();

  constructor(options: StoreLeaseBookOptions) {
    this.#options = options;
    this.#finding = new Batched((macs) => this.#find(macs), { most: MOST_AT_ONCE, turns: 1 });
  }

  async offer(client: LeaseClient): Promise<Binding | undefined> {
    const { network, tenure, reserved } = await this.#look(client);
    if (reserved !== undefined) return permanent(network, reserved);
    if (tenure === undefined) return undefined;
    const address = tenure.offer(client);
    if (address === undefined) throw network.full;
    return leased(network, numberToIpv4(address));
  }

  async bind(client: LeaseClient, address: string): Promise<Bound> {
    const wanted = ipv4ToNumber(address);
    const { network, tenure, reserved } = this.#offeredTo(client.mac, wanted) ?? (await this.#look(client));
    if (reserved !== undefined) {
      return address === reserved ? { kind: 'bound', binding: permanent(network, reserved) } : { kind: 'elsewhere' };
    }
    if (tenure === undefined) return { kind: 'unknown' };
    const kind = await tenure.bind(client, wanted);
    return kind === 'bound' ? { kind, binding: leased(network, address) } : { kind };
  }

  async withdraw(client: LeaseClient): Promise<void> {
    (await this.#look(client)).tenure?.withdraw(client);
  }

  async release(client: LeaseClient, address: string): Promise<void> {
    await (await this.#look(client)).tenure?.release(client, ipv4ToNumber(address));
  }

  async decline(client: LeaseClient, address: string): Promise<void> {
    await (await this.#look(client)).tenure?.decline(client, ipv4ToNumber(address));
  }

  async parameters({ mac }: LeaseClient): Promise<NetworkParameters> {
    return (await this.#finding.do(mac)).network.parameters;
  }

  isStranger(mac: Mac): boolean {
    return this.#strangers.has(mac);
  }

  async #look({ mac }: LeaseClient): Promise<Party> {
    const { network, reserved } = await this.#finding.do(mac);
    const isStranger = reserved === undefined && network.range !== undefined;
    return { network, reserved, tenure: isStranger ? await this.#tenure(network, network.range) : undefined };
  }

  /**
   * Spares a client that asks for what it was offered a moment ago, or has, the look at the database: the write looks for
   * machines that became known since.
   */
  #offeredTo(mac: Mac, address: number): Party | undefined {
    const { network, tenure } = this.#leasing ?? {};
    const age = this.#options.clock.now() - this.#readAt;
    const isCurrent = tenure?.lostAt === undefined && network === this.#network && age >= 0 && age < SECOND;
    if (network === undefined || tenure === undefined || !isCurrent || !tenure.isOf(mac, address)) return undefined;
    return { network, tenure, reserved: undefined };
  }

  async #tenure(network: Network, range: AddressRange): Promise<LeaseTenure> {
    const leasing = this.#leasing;
    // Another range is another tenure.
    if (leasing?.network !== network) return this.#begin(network, range);
    const tenure = await leasing.begun;
    if (tenure.lostAt === undefined) return tenure;
    // Two daemons on one subnet would do nothing but take it from each other.
    const since = this.#options.clock.now() - tenure.lostAt;
    if (since >= 0 && since < SECOND) throw fenced(this.#options.subnetId);
    return this.#leasing === leasing ? this.#begin(network, range) : this.#tenure(network, range);
  }

  #begin(network: Network, range: AddressRange): Promise<LeaseTenure> {
    const { gateway } = network.parameters;
    const leasing: Leasing = { network, begun: LeaseTenure.begin({ ...this.#options, range, gateway }) };
    this.#leasing = leasing;
    leasing.begun.then(
      (tenure) => (leasing.tenure = tenure),
      () => {
        if (this.#leasing === leasing) this.#leasing = undefined;
      },
    );
    return leasing.begun;
  }

  async #find(macs: readonly Mac[]): Promise<Found[]> {
    const { store, subnetId } = this.#options;
    const found = await findClients(store, subnetId, macs);
    if (found === undefined) {
      throw new RackstartError('config.invalid', 'the subnet to serve is not in the database', {
        details: { subnet: subnetId },
      });
    }
    if (this.#network === undefined || !isSame(this.#network.row, found.subnet))
      this.#network = networkOf(found.subnet);
    this.#readAt = this.#options.clock.now();
    if (this.#strangers.size > MOST_REMEMBERED) this.#strangers.clear();
    for (const mac of macs) {
      if (found.reserved.has(mac)) this.#strangers.delete(mac);
      else this.#strangers.add(mac);
    }
    const network = this.#network;
    return macs.map((mac) => ({ network, reserved: found.reserved.get(mac) }));
  }
}

/** What an answer rests on; made anew when the subnet's row has changed, and the same object as long as it has not. */
interface Network {
  readonly row: SubnetRow;
  readonly parameters: NetworkParameters;
  /** Undefined: strangers get nothing. */
  readonly range: AddressRange | undefined;
  /** What strangers are turned away with: made once, since there may be thousands a second. */
  readonly full: RackstartError;
}

interface Found {
  readonly network: Network;
  /** A known machine's. */
  readonly reserved: string | undefined;
}

interface Party extends Found {
  /** A stranger's, where strangers get something. */
  readonly tenure: LeaseTenure | undefined;
}

/** A tenure as it begins, and once it has begun. */
interface Leasing {
  readonly network: Network;
  readonly begun: Promise<LeaseTenure>;
  tenure?: LeaseTenure;
}

const RESERVATION_TIME: Millis = 24 * HOUR;
const MOST_AT_ONCE = 128;
const MOST_REMEMBERED = 10_000;

function isSame(one: SubnetRow, other: SubnetRow): boolean {
  const columns = ['cidr', 'gateway', 'dns', 'lease_first', 'lease_last'] as const;
  return columns.every((column) => one[column] === other[column]);
}

function networkOf(row: SubnetRow): Network {
  const { cidr, gateway, dns, lease_first, lease_last } = row;
  const parameters = {
    prefixLength: parseCidr(cidr).prefixLength,
    ...(gateway === null ? {} : { gateway }),
    // A network of IPv4 may well name resolvers of IPv6; option 6 can't.
    dns: (JSON.parse(dns) as string[]).filter(isIPv4),
  };
  const range =
    lease_first === null || lease_last === null
      ? undefined
      : { first: ipv4ToNumber(lease_first), last: ipv4ToNumber(lease_last) };
  const full = new RackstartError('address.pool-empty', 'every address for DHCP clients is leased', {
    details: { subnet: cidr, first: lease_first, last: lease_last },
  });
  return { row, parameters, range, full };
}

function permanent({ parameters }: Network, address: string): Binding {
  return { ...parameters, address, leaseTime: RESERVATION_TIME / SECOND, permanent: true };
}

function leased({ parameters }: Network, address: string): Binding {
  return { ...parameters, address, leaseTime: LEASE_TIME / SECOND, permanent: false };
}
