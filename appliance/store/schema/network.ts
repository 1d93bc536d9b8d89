import type { Json, Millis } from './column-types.ts';

export interface SubnetRow {
  id: string;
  region_id: string;
  role: 'provisioning' | 'customer' | 'both';
  family: 4 | 6;
  /** Network address and prefix length, e.g. `10.77.0.0/24`. */
  cidr: string;
  gateway: string | null;
  /** JSON array of addresses. */
  dns: Json;
  /** First and last address given to servers. */
  server_first: string;
  server_last: string;
  /** First and last address given to known machines' provisioning NICs (reservations); null without provisioning. */
  reserved_first: string | null;
  reserved_last: string | null;
  /** First and last address leased to strangers; null: strangers get none. */
  lease_first: string | null;
  lease_last: string | null;
}

/** An address that is held, by a server (attempt), a machine's provisioning NIC, or a machine that was set aside with it. */
export interface AddressRow {
  subnet_id: string;
  /** Canonical text form. */
  address: string;
  holder_kind: 'attempt' | 'nic' | 'set-aside';
  /** Attempt id, MAC, or machine id. */
  holder_id: string;
  tenant_id: string | null;
  held_at: Millis;
}

/**
 * A stranger's DHCP lease, also when it has ended, so that its client finds its address again. Known machines have addresses
 * of holder kind `nic` instead and never appear here; what is only offered is in the memory of who offered it.
 */
export interface LeaseRow {
  subnet_id: string;
  address: string;
  mac: string;
  client_id: string | null;
  hostname: string | null;
  state: 'bound' | 'declined';
  expires_at: Millis;
}

/** Who leases the addresses of a subnet: each process that begins raises it, and whoever finds it raised has ended. */
export interface LeaseEpochRow {
  subnet_id: string;
  epoch: number;
}

/** A DHCP server that is not ours and answered a client on a network that we serve. */
export interface ForeignDhcpServerRow {
  subnet_id: string;
  /** Of the frame it came in, or of the relay it came through. */
  mac: string;
  /** Its server identifier. */
  address: string;
  first_seen_at: Millis;
  last_seen_at: Millis;
  /** MAC of the client that it answered last. */
  last_client: string;
}
