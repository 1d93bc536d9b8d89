import type { Json, Millis } from './column-types.ts';

export interface RegionRow {
  id: string;
  name: string;
}

export interface RackRow {
  id: string;
  region_id: string;
  name: string;
}

/** The shape asked for. `nics` says whether the customer-facing NIC is the provisioning NIC or another one. */
export interface FlavorRow {
  id: string;
  name: string;
  cores: number;
  memory_mib: number;
  disk_gib: number;
  nics: 'same' | 'separate';
}

export interface ImageRow {
  id: string;
  name: string;
  version: string;
  /** Its address in the image store, hex: SHA-256 of the chunk map, or of the compressed file. */
  sha256: string;
  /** Of the whole compressed file. */
  bytes: number;
  raw_bytes: number;
  format: 'chunks' | 'raw+zstd';
  /** Of a chunk map; null for one compressed file. */
  map_bytes: number | null;
  /** SHA-256 of what was sent, hex; null where that is `sha256`. */
  source_sha256: string | null;
  root_partition: number;
  root_fs: 'ext4';
  kernel_args: string;
  created_at: Millis;
}

export interface MachineRow {
  id: string;
  name: string;
  rack_id: string;
  state:
    | 'enrolled'
    | 'inspecting'
    | 'available'
    | 'warming'
    | 'ready'
    | 'deploying'
    | 'deployed'
    | 'releasing'
    | 'quarantined'
    | 'retired';
  /** Dirty from the first byte an install may write until a wipe has been proven. */
  disk_state: 'clean' | 'dirty';
  quarantine_reason: string | null;
  /** Counts boot orders: a report that carries another generation is stale. */
  generation: number;
  firmware: 'bios' | 'uefi' | null;
  vendor: string | null;
  model: string | null;
  serial: string | null;
  /** RFC 4122 text form, lower case, as SMBIOS reports it inside the running system. */
  smbios_uuid: string | null;
  cores: number | null;
  memory_mib: number | null;
  bmc_kind: 'ipmi' | 'ipmitool';
  bmc_address: string;
  bmc_port: number;
  bmc_username: string;
  /** Sealed under the master key, see machines/bmc/credentials. */
  bmc_password: string;
  bmc_cipher_suite: 3 | 17;
  /** The rule by which the ramdisk picks the root disk. */
  disk_rule: Json;
  created_at: Millis;
  updated_at: Millis;
}

export interface MachineNicRow {
  /** Lower case, colons. A MAC belongs to one machine. */
  mac: string;
  machine_id: string;
  name: string | null;
  role: 'provisioning' | 'customer' | 'both';
  speed_mbps: number | null;
  /** Where it is plugged in, in the words of the relay that tells it: `sw-7/eth3`. Null: nobody said, any will do. */
  switch_port: string | null;
}

export interface MachineDiskRow {
  machine_id: string;
  name: string;
  bytes: number;
  type: 'nvme' | 'ssd' | 'hdd';
  serial: string;
  model: string;
}

/** A machine that is held: the primary key is why it can't have two holders. */
export interface AllocationRow {
  machine_id: string;
  attempt_id: string;
  tenant_id: string;
  claimed_at: Millis;
}
