import type { Mac } from '../boot-client.ts';

/** What every client of a network is told. */
export interface NetworkParameters {
  readonly prefixLength: number;
  readonly gateway?: string;
  readonly dns: readonly string[];
}

/** Where a client lives on the network of the interface it asked through. */
export interface Binding extends NetworkParameters {
  readonly address: string;
  /** Seconds. */
  readonly leaseTime: number;
  /** True for a known machine: the binding was there before the packet and outlives it. */
  readonly permanent: boolean;
}

export interface LeaseClient {
  readonly mac: Mac;
  /** Option 61, hex; kept for the record: the MAC alone decides, so that the address is the same in firmware, ramdisk and OS. */
  readonly clientId?: string;
  readonly hostname?: string;
  /** Option 50, or ciaddr. */
  readonly requested?: string;
}

/** Whether an address may be used: `elsewhere` asks for a NAK, `unknown` for silence (RFC 2131 §4.3.2). */
export type Bound = { kind: 'bound'; binding: Binding } | { kind: 'elsewhere' } | { kind: 'unknown' };

/**
 * Who has which address on one network. Known machines have reservations: nothing is written for them. A stranger's
 * lease is durable before `bind` resolves; an offer is a promise that a restart forgets. Errors: `address.pool-empty`
 * (no live lease is ever stolen), `store.unavailable`, `lease.fenced` (another process leases on this network by now).
 */
export interface LeaseBook {
  /** For a DISCOVER. Undefined when the network serves known machines alone and this is none. */
  offer(client: LeaseClient): Promise<Binding | undefined>;
  /** For a REQUEST of `address`. */
  bind(client: LeaseClient, address: string): Promise<Bound>;
  /** The client chose another server: what it was offered, and has not bound, is free. */
  withdraw(client: LeaseClient): Promise<void>;
  release(client: LeaseClient, address: string): Promise<void>;
  /** The client saw somebody else use it: the address rests. */
  decline(client: LeaseClient, address: string): Promise<void>;
  /** For an INFORM, which binds nothing. */
  parameters(client: LeaseClient): Promise<NetworkParameters>;
  /** Whether one of the calls above found, and lately, that this is no known machine. False claims nothing. */
  isStranger(mac: Mac): boolean;
}
