import { isIPv4 } from 'node:net';

import { parseCidr } from '../../appliance/network/address-range.ts';
import type { Clock, Millis } from '../../appliance/kernel/clock.ts';
import { HOUR, MINUTE, SECOND } from '../../appliance/kernel/clock.ts';
import { RackstartError } from '../../appliance/kernel/errors.ts';
import type { LeaseRow, SubnetRow } from '../../appliance/store/schema.ts';
import type { Store, Tx } from '../../appliance/store/store.ts';
import type { Mac } from '../boot-client.ts';
import type { AddressRange, Taken } from './allocate.ts';
import { chooseAddress, contains } from './allocate.ts';
import { ipv4ToNumber, numberToIpv4 } from './ipv4.ts';
import type { Binding, Bound, LeaseBook, LeaseClient, NetworkParameters } from './lease-book.ts';

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
      const address =
        (await this.#heldLongEnough(client.mac, range)) ??
        (await this.#store.transaction((tx) => this.#offerStranger(tx, client, subnet, range)));
      return leased(subnet, address);
    });
  }

  async bind(client: LeaseClient, address: string): Promise<Bound> {
    const { subnet, reserved } = await this.#find(client.mac);
    if (reserved !== undefined) {
      return address === reserved ? { kind: 'bound', binding: permanent(subnet, reserved) } : { kind: 'elsewhere' };
    }
    const range = leaseRange(subnet);
    if (range === undefined) return { kind: 'unknown' };
    return this.#inTurn(() =>
      this.#store.transaction(async (tx): Promise<Bound> => {
        const rows = await this.#rows(tx);
        const own = rows.filter(({ mac, state }) => mac === client.mac && state !== 'declined');
        const mine = own.some((row) => row.address === address) && contains(range, ipv4ToNumber(address));
        if (mine && !(await this.#isHeld(tx, address)) && (await this.#bindStranger(tx, client, address))) {
          return { kind: 'bound', binding: leased(subnet, address) };
        }
        const somebodys = rows.some((row) => row.address === address && row.expires_at > this.#clock.now());
        return { kind: own.length > 0 || somebodys ? 'elsewhere' : 'unknown' };
      }),
    );
  }

  async withdraw(client: LeaseClient): Promise<void> {
    await this.#change(client, undefined, ['offered'], { expires_at: this.#clock.now() });
  }

  async release(client: LeaseClient, address: string): Promise<void> {
    await this.#change(client, address, ['offered', 'bound'], { expires_at: this.#clock.now() });
  }

  async decline(client: LeaseClient, address: string): Promise<void> {
    const rest = { state: 'declined', expires_at: this.#clock.now() + DECLINE_REST } as const;
    await this.#change(client, address, ['offered', 'bound'], rest);
  }

  async parameters(): Promise<NetworkParameters> {
    const subnet = await this.#store.read
      .selectFrom('subnets')
      .selectAll()
      .where('id', '=', this.#subnetId)
      .executeTakeFirst();
    return parametersOf(subnet ?? this.#noSubnet());
  }

  /** The subnet, and the address reserved in it for a known machine's NIC: one query, all that a known machine costs. */
  async #find(mac: Mac): Promise<{ subnet: SubnetRow; reserved: string | undefined }> {
    const row = await this.#store.read
      .selectFrom('subnets')
      .leftJoin('addresses', (join) =>
        join
          .onRef('addresses.subnet_id', '=', 'subnets.id')
          .on('addresses.holder_kind', '=', 'nic')
          .on('addresses.holder_id', '=', mac),
      )
      .selectAll('subnets')
      .select('addresses.address as reserved')
      .where('subnets.id', '=', this.#subnetId)
      .executeTakeFirst();
    if (row === undefined) return this.#noSubnet();
    return { subnet: row, reserved: row.reserved ?? undefined };
  }

  #noSubnet(): never {
    throw new RackstartError('config.invalid', 'the subnet to serve is not in the database', {
      details: { subnet: this.#subnetId },
    });
  }

  /** What the client has for long enough to finish with it: a repeated DISCOVER writes nothing. */
  async #heldLongEnough(mac: Mac, range: AddressRange): Promise<string | undefined> {
    const row = await this.#store.read
      .selectFrom('leases')
      .leftJoin('addresses', (join) =>
        join.onRef('addresses.subnet_id', '=', 'leases.subnet_id').onRef('addresses.address', '=', 'leases.address'),
      )
      .select('leases.address')
      .where('leases.subnet_id', '=', this.#subnetId)
      .where('leases.mac', '=', mac)
      .where('leases.state', '!=', 'declined')
      .where('leases.expires_at', '>', this.#clock.now() + OFFER_TIME / 2)
      .where('addresses.address', 'is', null)
      .executeTakeFirst();
    return row !== undefined && contains(range, ipv4ToNumber(row.address)) ? row.address : undefined;
  }

  async #offerStranger(tx: Tx, client: LeaseClient, subnet: SubnetRow, range: AddressRange): Promise<string> {
    // It ends: who loses a turn finds one more address taken in the next.
    for (;;) {
      const address = chooseAddress(range, await this.#taken(tx, subnet), {
        mac: client.mac,
        requested: client.requested === undefined ? undefined : ipv4ToNumber(client.requested),
      });
      if (address === undefined) {
        throw new RackstartError('address.pool-empty', 'every address for DHCP clients is leased', {
          details: { subnet: subnet.cidr, first: subnet.lease_first, last: subnet.lease_last },
        });
      }
      const text = numberToIpv4(address);
      if (await this.#writeOffer(tx, client, text)) return text;
    }
  }

  /** False when somebody else took the address in the meantime. */
  async #writeOffer(tx: Tx, client: LeaseClient, address: string): Promise<boolean> {
    const now = this.#clock.now();
    const offered = { ...clientColumns(client), state: 'offered', expires_at: now + OFFER_TIME } as const;
    const written = await tx
      .insertInto('leases')
      .values({ subnet_id: this.#subnetId, address, ...offered })
      .onConflict((conflict) =>
        conflict
          .columns(['subnet_id', 'address'])
          .doUpdateSet(offered)
          .where((eb) =>
            eb.or([
              eb.and([eb('leases.mac', '=', client.mac), eb('leases.state', '!=', 'declined')]),
              eb('leases.expires_at', '<=', now),
            ]),
          ),
      )
      .executeTakeFirst();
    if (written.numInsertedOrUpdatedRows !== 1n) return false;
    await tx
      .deleteFrom('leases')
      .where('subnet_id', '=', this.#subnetId)
      .where('mac', '=', client.mac)
      .where('address', '!=', address)
      .where('state', '!=', 'declined')
      .execute();
    return true;
  }

  async #bindStranger(tx: Tx, client: LeaseClient, address: string): Promise<boolean> {
    const written = await tx
      .updateTable('leases')
      .set({ ...clientColumns(client), state: 'bound', expires_at: this.#clock.now() + LEASE_TIME })
      .where('subnet_id', '=', this.#subnetId)
      .where('address', '=', address)
      .where('mac', '=', client.mac)
      .where('state', '!=', 'declined')
      .executeTakeFirst();
    return written.numUpdatedRows === 1n;
  }

  /** Changes the client's own live leases in these states, and writes nothing when it has none. */
  async #change(
    client: LeaseClient,
    address: string | undefined,
    states: readonly LeaseRow['state'][],
    change: Partial<LeaseRow>,
  ): Promise<void> {
    const now = this.#clock.now();
    await this.#inTurn(async () => {
      const live = await this.#store.read
        .selectFrom('leases')
        .select('address')
        .where('subnet_id', '=', this.#subnetId)
        .where('mac', '=', client.mac)
        .where('state', 'in', states)
        .where('expires_at', '>', now)
        .execute();
      const found = live.map((row) => row.address).filter((one) => address === undefined || one === address);
      if (found.length === 0) return;
      await this.#store.transaction((tx) =>
        tx
          .updateTable('leases')
          .set(change)
          .where('subnet_id', '=', this.#subnetId)
          .where('address', 'in', found)
          .where('mac', '=', client.mac)
          .where('state', 'in', states)
          .execute(),
      );
    });
  }

  #rows(tx: Tx): Promise<LeaseRow[]> {
    return tx.selectFrom('leases').selectAll().where('subnet_id', '=', this.#subnetId).execute();
  }

  async #taken(tx: Tx, subnet: SubnetRow): Promise<Taken[]> {
    const now = this.#clock.now();
    const rows = await this.#rows(tx);
    const held = await tx.selectFrom('addresses').select('address').where('subnet_id', '=', subnet.id).execute();
    const never = new Set(held.map(({ address }) => address));
    if (subnet.gateway !== null) never.add(subnet.gateway);
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

  async #isHeld(tx: Tx, address: string): Promise<boolean> {
    const row = await tx
      .selectFrom('addresses')
      .select('address')
      .where('subnet_id', '=', this.#subnetId)
      .where('address', '=', address)
      .executeTakeFirst();
    return row !== undefined;
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => undefined);
    return result;
  }
}

/** A client that answers an offer does so within seconds. */
const OFFER_TIME: Millis = MINUTE;
const LEASE_TIME: Millis = HOUR;
const RESERVATION_TIME: Millis = 24 * HOUR;
const DECLINE_REST: Millis = 10 * MINUTE;

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

function clientColumns({ mac, clientId, hostname }: LeaseClient) {
  return { mac, client_id: clientId ?? null, hostname: hostname ?? null };
}
