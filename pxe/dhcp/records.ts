import { isIPv4 } from 'node:net';

import type { Clock, Millis } from '../../appliance/kernel/clock.ts';
import { HOUR, MINUTE, SECOND } from '../../appliance/kernel/clock.ts';
import { RackstartError } from '../../appliance/kernel/errors.ts';
import { parseCidr } from '../../appliance/network/address-range.ts';
import type { LeaseRow, SubnetRow } from '../../appliance/store/schema.ts';
import type { Store, Tx } from '../../appliance/store/store.ts';
import type { Mac } from '../boot-client.ts';
import type { AddressRange, Taken } from './allocate.ts';
import { chooseAddress, contains } from './allocate.ts';
import { ipv4ToNumber, numberToIpv4 } from './ipv4.ts';
import type { Binding, Bound, LeaseBook, LeaseClient, NetworkParameters } from './lease-book.ts';
import type { LeaseChange } from './lease-rows.ts';
import {
  allLeases,
  findSubnet,
  heldBeyond,
  heldForGood,
  liveAddresses,
  writeBound,
  writeChange,
  writeOffer,
} from './lease-rows.ts';

export interface StoreLeaseBookOptions {
  readonly store: Store;
  /** An IPv4 subnet that machines boot in. */
  readonly subnetId: string;
  readonly clock: Clock;
}

/**
 * Leases in the database. A known machine's reservation is a row of `addresses` and is only read. Strangers' leases are
 * rows of `leases`, one an address; a row outlives its lease, so that a client finds its old address again. One
 * process serves a subnet, and writes its strangers' leases one after another; the conditions in the writes hold
 * against a second one all the same.
 */
export class StoreLeaseBook implements LeaseBook {
  readonly #store: Store;
  readonly #subnetId: string;
  readonly #clock: Clock;
  #turn: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  constructor({ store, subnetId, clock }: StoreLeaseBookOptions) {
    this.#store = store;
    this.#subnetId = subnetId;
    this.#clock = clock;
  }

  async offer(client: LeaseClient): Promise<Binding | undefined> {
    const { subnet, reserved } = await this.#find(client.mac);
    if (reserved !== undefined) return permanent(subnet, reserved);
    const range = leaseRange(subnet);
    if (range === undefined) return undefined;
    return this.#inTurn(async () => {
      // A repeated DISCOVER writes nothing: what the client has lasts until it is through.
      const had = await heldBeyond(this.#store.read, subnet.id, client.mac, this.#clock.now() + OFFER_TIME / 2);
      if (had !== undefined && contains(range, ipv4ToNumber(had))) return leased(subnet, had);
      return leased(subnet, await this.#store.transaction((tx) => this.#offerStranger(tx, client, subnet, range)));
    });
  }

  async bind(client: LeaseClient, address: string): Promise<Bound> {
    const { subnet, reserved } = await this.#find(client.mac);
    if (reserved !== undefined) {
      return address === reserved ? { kind: 'bound', binding: permanent(subnet, reserved) } : { kind: 'elsewhere' };
    }
    const range = leaseRange(subnet);
    if (range === undefined) return { kind: 'unknown' };
    return this.#inTurn(() => this.#store.transaction((tx) => this.#bindStranger(tx, client, subnet, range, address)));
  }

  async withdraw(client: LeaseClient): Promise<void> {
    await this.#change(client, ['offered'], undefined, { expires_at: this.#clock.now() });
  }

  async release(client: LeaseClient, address: string): Promise<void> {
    await this.#change(client, ['offered', 'bound'], address, { expires_at: this.#clock.now() });
  }

  async decline(client: LeaseClient, address: string): Promise<void> {
    const rest = { state: 'declined', expires_at: this.#clock.now() + DECLINE_REST } as const;
    await this.#change(client, ['offered', 'bound'], address, rest);
  }

  async parameters({ mac }: LeaseClient): Promise<NetworkParameters> {
    const { subnet } = await this.#find(mac);
    return parametersOf(subnet);
  }

  async #find(mac: Mac): Promise<{ subnet: SubnetRow; reserved: string | undefined }> {
    const found = await findSubnet(this.#store.read, this.#subnetId, mac);
    if (found !== undefined) return found;
    throw new RackstartError('config.invalid', 'the subnet to serve is not in the database', {
      details: { subnet: this.#subnetId },
    });
  }

  async #offerStranger(tx: Tx, client: LeaseClient, subnet: SubnetRow, range: AddressRange): Promise<string> {
    const requested = client.requested === undefined ? undefined : ipv4ToNumber(client.requested);
    // It ends: who loses a turn finds one more address taken in the next.
    for (;;) {
      const now = this.#clock.now();
      const address = chooseAddress(range, await takenAddresses(tx, subnet, now), { mac: client.mac, requested });
      if (address === undefined) {
        throw new RackstartError('address.pool-empty', 'every address for DHCP clients is leased', {
          details: { subnet: subnet.cidr, first: subnet.lease_first, last: subnet.lease_last },
        });
      }
      const text = numberToIpv4(address);
      if (await writeOffer(tx, subnet.id, client, text, { now, until: now + OFFER_TIME })) return text;
    }
  }

  async #bindStranger(
    tx: Tx,
    client: LeaseClient,
    subnet: SubnetRow,
    range: AddressRange,
    address: string,
  ): Promise<Bound> {
    const now = this.#clock.now();
    const rows = await allLeases(tx, subnet.id);
    const own = rows.filter(({ mac, state }) => mac === client.mac && state !== 'declined');
    const mine = own.some((row) => row.address === address) && contains(range, ipv4ToNumber(address));
    if (mine && !(await heldForGood(tx, subnet.id)).has(address)) {
      const written = await writeBound(tx, subnet.id, client, address, now + LEASE_TIME);
      if (written) return { kind: 'bound', binding: leased(subnet, address) };
    }
    const somebodys = rows.some((row) => row.address === address && row.expires_at > now);
    return { kind: own.length > 0 || somebodys ? 'elsewhere' : 'unknown' };
  }

  /** Changes the client's own live leases, all of them or the one at `address`; writes nothing when it has none. */
  async #change(
    { mac }: LeaseClient,
    states: readonly LeaseRow['state'][],
    address: string | undefined,
    change: LeaseChange,
  ): Promise<void> {
    await this.#inTurn(async () => {
      const live = await liveAddresses(this.#store.read, this.#subnetId, mac, states, this.#clock.now());
      const addresses = live.filter((one) => address === undefined || one === address);
      if (addresses.length === 0) return;
      await this.#store.transaction((tx) => writeChange(tx, this.#subnetId, mac, { addresses, states, change }));
    });
  }

  /** A flood of strangers is turned away here: reading a known machine's reservation waits for nobody. */
  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (this.#waiting >= MOST_WAITING) {
      throw new RackstartError('store.unavailable', 'too many new DHCP clients at once');
    }
    this.#waiting++;
    const result = this.#turn.then(work).finally(() => this.#waiting--);
    this.#turn = result.catch(() => undefined);
    return result;
  }
}

/** A client that answers an offer does so within seconds. */
const OFFER_TIME: Millis = MINUTE;
const LEASE_TIME: Millis = HOUR;
const RESERVATION_TIME: Millis = 24 * HOUR;
const DECLINE_REST: Millis = 10 * MINUTE;
/** A durable write takes a millisecond or so: this is far less than a client waits. */
const MOST_WAITING = 64;

async function takenAddresses(tx: Tx, subnet: SubnetRow, now: Millis): Promise<Taken[]> {
  const never = await heldForGood(tx, subnet.id);
  if (subnet.gateway !== null) never.add(subnet.gateway);
  const rows = await allLeases(tx, subnet.id);
  return [
    ...[...never].map((address) => ({ address: ipv4ToNumber(address), mac: undefined, live: true, since: Infinity })),
    ...rows
      .filter(({ address }) => !never.has(address))
      .map(({ address, mac, state, expires_at }) => ({
        address: ipv4ToNumber(address),
        mac: state === 'declined' ? undefined : mac,
        live: expires_at > now,
        since: expires_at,
      })),
  ];
}

function leaseRange({ lease_first, lease_last }: SubnetRow): AddressRange | undefined {
  if (lease_first === null || lease_last === null) return undefined;
  return { first: ipv4ToNumber(lease_first), last: ipv4ToNumber(lease_last) };
}

function permanent(subnet: SubnetRow, address: string): Binding {
  return { ...parametersOf(subnet), address, leaseTime: RESERVATION_TIME / SECOND, permanent: true };
}

function leased(subnet: SubnetRow, address: string): Binding {
  return { ...parametersOf(subnet), address, leaseTime: LEASE_TIME / SECOND, permanent: false };
}

function parametersOf({ cidr, gateway, dns }: SubnetRow): NetworkParameters {
  return {
    prefixLength: parseCidr(cidr).prefixLength,
    ...(gateway === null ? {} : { gateway }),
    // A network of IPv4 may well name resolvers of IPv6; option 6 can't.
    dns: (JSON.parse(dns) as string[]).filter(isIPv4),
  };
}
