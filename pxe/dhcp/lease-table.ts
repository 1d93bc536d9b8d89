import type { Millis } from '../../appliance/kernel/clock.ts';
import type { Mac } from '../boot-client.ts';

export interface AddressRange {
  readonly first: number;
  readonly last: number;
}

/** An address of the range that a client has, or had; as a number. */
export interface Lease {
  readonly address: number;
  /** Whose it is, or was last. */
  readonly mac: Mac;
  /** A declined address is nobody's: somebody outside of our records uses it. */
  readonly state: 'offered' | 'bound' | 'declined';
  /** Until then nobody else may have it. */
  readonly until: Millis;
}

/**
 * The leases of one range, in memory: at most one an address and, declined ones left out, one a client. What has ended
 * stays until somebody else gets the address, so that a client that was away finds its own again. Nothing here grows
 * beyond the range, whoever asks.
 */
export class LeaseTable {
  readonly #range: AddressRange;
  readonly #never: ReadonlySet<number>;
  readonly #byAddress = new Map<number, Entry>();
  readonly #byMac = new Map<Mac, Entry>();
  readonly #byEnd: Entry[] = [];
  #fresh: number;

  /** `never` are addresses of the range that are nobody's to lease, such as the gateway. */
  constructor(range: AddressRange, never: ReadonlySet<number> = new Set()) {
    this.#range = range;
    this.#never = never;
    this.#fresh = range.first;
  }

  /** What the client has, or had and nobody took since. */
  of(mac: Mac): Lease | undefined {
    return this.#byMac.get(mac)?.lease;
  }

  at(address: number): Lease | undefined {
    return this.#byAddress.get(address)?.lease;
  }

  /**
   * The address to offer: the client's own; else the one it asks for, if that is free; else one that nobody ever had;
   * else the one that has been free for longest. Undefined when every address is somebody else's; that is known at once.
   */
  choose(mac: Mac, requested: number | undefined, now: Millis): number | undefined {
    const own = this.of(mac);
    if (own !== undefined) return own.address;
    if (requested !== undefined && this.#isFree(requested, now)) return requested;
    while (this.#fresh <= this.#range.last && this.#isTaken(this.#fresh)) this.#fresh++;
    if (this.#fresh <= this.#range.last) return this.#fresh;
    const [first] = this.#byEnd;
    return first !== undefined && first.lease.until <= now ? first.lease.address : undefined;
  }

  /** Notes a lease in the place of whatever was known of its address; one outside of the range is left out. */
  put(lease: Lease): void {
    if (!contains(this.#range, lease.address) || this.#never.has(lease.address)) return;
    let entry = this.#byAddress.get(lease.address);
    if (entry === undefined) {
      entry = { lease, place: this.#byEnd.length };
      this.#byAddress.set(lease.address, entry);
      this.#byEnd.push(entry);
    } else {
      if (this.#byMac.get(entry.lease.mac) === entry) this.#byMac.delete(entry.lease.mac);
      entry.lease = lease;
    }
    if (lease.state !== 'declined') this.#byMac.set(lease.mac, entry);
    rise(this.#byEnd, entry);
    sink(this.#byEnd, entry);
  }

  #isFree(address: number, now: Millis): boolean {
    if (!contains(this.#range, address) || this.#never.has(address)) return false;
    const lease = this.at(address);
    return lease === undefined || lease.until <= now;
  }

  #isTaken(address: number): boolean {
    return this.#byAddress.has(address) || this.#never.has(address);
  }
}

export function contains({ first, last }: AddressRange, address: number): boolean {
  return address >= first && address <= last;
}

interface Entry {
  lease: Lease;
  /** Its index in the heap. */
  place: number;
}

// A binary heap, the lease that ends first on top: entry n has its children at 2n + 1 and 2n + 2.

function rise(heap: Entry[], entry: Entry): void {
  for (;;) {
    const parent = heap[(entry.place - 1) >> 1];
    if (parent === undefined || parent.lease.until <= entry.lease.until) return;
    swap(heap, entry, parent);
  }
}

function sink(heap: Entry[], entry: Entry): void {
  for (;;) {
    const left = heap[2 * entry.place + 1];
    const right = heap[2 * entry.place + 2];
    if (left === undefined) return;
    const child = right !== undefined && right.lease.until < left.lease.until ? right : left;
    if (entry.lease.until <= child.lease.until) return;
    swap(heap, entry, child);
  }
}

function swap(heap: Entry[], one: Entry, other: Entry): void {
  [one.place, other.place] = [other.place, one.place];
  heap[one.place] = one;
  heap[other.place] = other;
}
