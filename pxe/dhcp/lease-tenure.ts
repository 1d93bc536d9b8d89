import type { Clock, Millis } from '../../appliance/kernel/clock.ts';
import { HOUR, MINUTE } from '../../appliance/kernel/clock.ts';
import { RackstartError } from '../../appliance/kernel/errors.ts';
import type { LeaseRow } from '../../appliance/store/schema.ts';
import type { Store } from '../../appliance/store/store.ts';
import type { Mac } from '../boot-client.ts';
import { Batched } from './batched.ts';
import { ipv4ToNumber, numberToIpv4 } from './ipv4.ts';
import type { LeaseClient } from './lease-book.ts';
import { allLeases, heldAmong, heldForGood, isEpoch, nextEpoch, writeLeases } from './lease-rows.ts';
import type { AddressRange, Lease } from './lease-table.ts';
import { contains, LeaseTable } from './lease-table.ts';

export const LEASE_TIME: Millis = HOUR;

export interface TenureOptions {
  readonly store: Store;
  readonly subnetId: string;
  readonly range: AddressRange;
  readonly gateway: string | undefined;
  readonly clock: Clock;
}

/**
 * The time in which one process leases the addresses of one range to strangers. It begins by reading all leases; from then
 * on memory decides, and the database is the record: a lease is on the disk before its client hears of it, all that were
 * asked for meanwhile in one transaction. An offer is a promise for a minute, and in memory alone (RFC 2131 §3.1).
 *
 * It ends when somebody else begins one on the same subnet, which raises the epoch that every write checks: nothing of
 * the former tenure is written from then on, and whoever serves it is told so by `lease.fenced`.
 */
export class LeaseTenure {
  readonly #options: TenureOptions;
  readonly #epoch: number;
  readonly #table: LeaseTable;
  /** Clients with a lease from before the range was moved. */
  readonly #displaced: ReadonlySet<Mac>;
  readonly #journal: Batched<LeaseRow, Written>;
  #lostAt: Millis | undefined;
  /** A commit stops the process for as long as the disk takes. It then has as long for everything else, while more gathers. */
  #restUntil: Millis = 0;

  private constructor(options: TenureOptions, epoch: number, table: LeaseTable, displaced: ReadonlySet<Mac>) {
    this.#options = options;
    this.#epoch = epoch;
    this.#table = table;
    this.#displaced = displaced;
    const { clock } = options;
    const never = new AbortController().signal;
    this.#journal = new Batched((rows) => this.#write(rows), {
      most: MOST_TOGETHER,
      turns: GATHER_TURNS,
      ready: () => clock.sleepUntil(this.#restUntil, never),
    });
  }

  static begin(options: TenureOptions): Promise<LeaseTenure> {
    const { store, subnetId, range, gateway } = options;
    return store.transaction(async (tx) => {
      const epoch = await nextEpoch(tx, subnetId);
      const never = [...(await heldForGood(tx, subnetId)), ...(gateway === undefined ? [] : [gateway])];
      const table = new LeaseTable(range, new Set(never.map(ipv4ToNumber)));
      const rows = await allLeases(tx, subnetId);
      const leases = rows.map(({ address, mac, state, expires_at }) => {
        return { address: ipv4ToNumber(address), mac: mac as Mac, state, until: expires_at };
      });
      for (const lease of leases) table.put(lease);
      const displaced = leases.filter(({ address }) => !contains(range, address)).map(({ mac }) => mac);
      return new LeaseTenure(options, epoch, table, new Set(displaced));
    });
  }

  /** When it was seen to be over. */
  get lostAt(): Millis | undefined {
    return this.#lostAt;
  }

  /** Whether the client has the address, or had it and nobody took it since. */
  isOf(mac: Mac, address: number): boolean {
    return this.#table.of(mac)?.address === address;
  }

  /** Undefined when every address is somebody else's, which is known at once: a full range costs no more than an empty one. */
  offer({ mac, requested }: LeaseClient): number | undefined {
    const now = this.#options.clock.now();
    const own = this.#table.of(mac);
    // What a client has lasts until it is through; a repeated DISCOVER changes nothing.
    if (own !== undefined && own.until > now + OFFER_TIME / 2) return own.address;
    const wish = requested === undefined ? undefined : ipv4ToNumber(requested);
    const address = this.#table.choose(mac, wish, now);
    if (address !== undefined) this.#table.put({ address, mac, state: 'offered', until: now + OFFER_TIME });
    return address;
  }

  /** Resolves when the lease is on the disk. */
  async bind(client: LeaseClient, address: number): Promise<'bound' | 'elsewhere' | 'unknown'> {
    const { clock } = this.#options;
    const now = clock.now();
    const own = this.#table.of(client.mac);
    if (own?.address !== address) {
      const theirs = this.#table.at(address);
      const isElsewhere = own !== undefined || this.#displaced.has(client.mac);
      return isElsewhere || (theirs !== undefined && theirs.until > now) ? 'elsewhere' : 'unknown';
    }
    if (this.#journal.unanswered >= MOST_UNANSWERED) {
      throw new RackstartError('store.unavailable', 'too many new DHCP clients at once');
    }
    const lease: Lease = { address, mac: client.mac, state: 'bound', until: now + LEASE_TIME };
    this.#table.put(lease);
    try {
      const written = await this.#journal.do(this.#row(client, lease));
      if (written === 'done') return 'bound';
      this.#table.put({ ...lease, state: 'declined', until: written === 'held' ? now + DECLINE_REST : now });
      return 'elsewhere';
    } catch (error) {
      // It has what it had, and a minute to ask again.
      if (this.#table.at(address) === lease) this.#table.put({ ...own, until: Math.max(own.until, now + OFFER_TIME) });
      throw error;
    }
  }

  /** What was offered and not bound is free. */
  withdraw({ mac }: LeaseClient): void {
    const own = this.#live(mac);
    if (own?.state === 'offered') this.#table.put({ ...own, until: this.#options.clock.now() });
  }

  async release(client: LeaseClient, address: number): Promise<void> {
    const own = this.#live(client.mac);
    if (own?.address !== address) return;
    const released = { ...own, until: this.#options.clock.now() };
    this.#table.put(released);
    if (own.state === 'bound') await this.#journal.do(this.#row(client, released));
  }

  async decline(client: LeaseClient, address: number): Promise<void> {
    const own = this.#live(client.mac);
    if (own?.address !== address) return;
    const declined: Lease = { ...own, state: 'declined', until: this.#options.clock.now() + DECLINE_REST };
    this.#table.put(declined);
    await this.#journal.do(this.#row(client, declined));
  }

  #live(mac: Mac): Lease | undefined {
    const own = this.#table.of(mac);
    return own !== undefined && own.until > this.#options.clock.now() ? own : undefined;
  }

  #row({ mac, clientId, hostname }: LeaseClient, { address, state, until }: Lease): LeaseRow {
    return {
      subnet_id: this.#options.subnetId,
      address: numberToIpv4(address),
      mac,
      client_id: clientId ?? null,
      hostname: hostname ?? null,
      state: state === 'declined' ? 'declined' : 'bound',
      expires_at: until,
    };
  }

  async #write(rows: readonly LeaseRow[]): Promise<Written[]> {
    const { store, subnetId, clock } = this.#options;
    const began = clock.now();
    const held = await store.transaction(async (tx) => {
      if (!(await isEpoch(tx, subnetId, this.#epoch))) return undefined;
      const found = await heldAmong(tx, store.dialect, subnetId, rows);
      const free = rows.filter(({ address, mac }) => !found.addresses.has(address) && !found.macs.has(mac));
      await writeLeases(tx, subnetId, lastOfEach(free));
      return found;
    });
    const ended = clock.now();
    this.#restUntil = ended + Math.min(Math.max(0, ended - began), LONGEST_REST);
    if (held === undefined) {
      this.#lostAt ??= clock.now();
      throw fenced(subnetId);
    }
    return rows.map(({ address, mac }) =>
      held.addresses.has(address) ? 'held' : held.macs.has(mac) ? 'known' : 'done',
    );
  }
}

export function fenced(subnetId: string): RackstartError {
  return new RackstartError('lease.fenced', 'another process has begun to lease addresses of this subnet', {
    details: { subnet: subnetId },
  });
}

/** Not so when the address is held for good by now, or the client has become a known machine. */
type Written = 'done' | 'held' | 'known';

/** A client that answers an offer does so within seconds. */
const OFFER_TIME: Millis = MINUTE;
const DECLINE_REST: Millis = 10 * MINUTE;
const MOST_TOGETHER = 256;
// A commit costs as much as many turns of an idle loop.
const GATHER_TURNS = 16;
/** Longer, and more would come than may wait. */
const LONGEST_REST: Millis = 10;
/** Less than a port has in flight, so that known machines are read on when the disk is stuck. */
const MOST_UNANSWERED = 384;

/** One row an address and one bound row a client: of several changes since the last write, the last. */
function lastOfEach(rows: readonly LeaseRow[]): LeaseRow[] {
  const byAddress = new Map(rows.map((row) => [row.address, row]));
  const byMac = new Map(rows.filter(({ state }) => state === 'bound').map((row) => [row.mac, row]));
  return [...byAddress.values()].filter((row) => row.state !== 'bound' || byMac.get(row.mac) === row);
}
