import type { Json, Millis } from './column-types.ts';

export interface RegionRow {
  id: string;
  name: string;
}

export interface RackRow {
  id: string;
  region_id: string;
  name: string;
  /** What its power comes from, in the operator's words; null: nobody said. */
  power_feed: string | null;
}

/** The shape asked for. `nics` says whether the customer-facing NIC is the provisioning NIC or another one. */
export interface FlavorRow {
  id: string;
  name: string;
  cores: number;
  memory_mib: number;
  disk_gib: number;
  nics: 'same' | 'separate';
  /** What becomes of the disks (`scheduler/disk-plan.ts`); null: the image on the disk that the machine's rule says. */
  layout: Json | null;
}

export interface ImageRow {
  id: string;
  /** Whose it is; null: everyone's. */
  tenant_id: string | null;
  /** With its version unique to `tenant_id`, among those that are not deleted. */
  name: string;
  version: string;
  /** Its address in the image store, hex: SHA-256 of the chunk map. */
  sha256: string;
  /** Of the whole compressed file. */
  bytes: number;
  raw_bytes: number;
  /** Of the chunk map. */
  map_bytes: number;
  /** SHA-256 of what was sent, hex. */
  source_sha256: string;
  /** Of what was sent. This and `partition_table` are null where nobody looked. */
  source_format: 'raw' | 'qcow2' | 'vmdk' | 'vhdx' | 'raw+zstd' | null;
  partition_table: 'gpt' | 'mbr' | null;
  root_partition: number;
  root_fs: 'ext4' | 'xfs' | 'btrfs';
  kernel_args: string;
  /** 1: its initramfs is made with mdadm; 0: it is not; null: nobody looked, or could tell. */
  has_mdadm: number | null;
  created_at: Millis;
  /** From then on it is not ordered anew. */
  deprecated_at: Millis | null;
  /** From then on it is nobody's: the row stays for what was ordered with it. */
  deleted_at: Millis | null;
}

/** The work of making an image of what was sent, or of what is fetched. */
export interface ImageImportRow {
  id: string;
  tenant_id: string | null;
  name: string;
  version: string;
  /** What was declared of the file: its format, and its SHA-256, hex. */
  format: 'raw' | 'qcow2' | 'vmdk' | 'vhdx' | 'raw+zstd';
  sha256: string;
  root_partition: number | null;
  kernel_args: string;
  /** Where the file is from: one of them. */
  upload_id: string | null;
  url: string | null;
  /** What it takes of the tenant's quota while it runs. */
  reserved_bytes: number;
  state: 'running' | 'done' | 'failed';
  /** How far one came that has ended. */
  stage: string | null;
  image_id: string | null;
  /** Of one that failed: code and message. */
  failure: Json | null;
  created_by: string;
  created_at: Millis;
  ended_at: Millis | null;
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
    | 'draining'
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
  /** When a check of its health was taken last, whatever it found. */
  checked_at: Millis | null;
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
  /** As it was seen last; null: never seen. One that is `gone` was seen, or named at enrolment, and was not there. */
  link: 'up' | 'down' | 'gone' | null;
}

export interface MachineDiskRow {
  machine_id: string;
  name: string;
  bytes: number;
  type: 'nvme' | 'ssd' | 'hdd';
  serial: string;
  model: string;
}

/** Something that is wrong with a machine. At most one of each type is open (partial unique index). */
export interface MachineIssueRow {
  id: string;
  machine_id: string;
  /** A key of `issueTypes` (machines/machine-issues.ts); severity and remedy are what it said when this was raised. */
  type: string;
  severity: 'info' | 'warning' | 'critical';
  /** What was found, in a sentence. */
  message: string;
  remedy: string;
  /** What it was concluded from: an object. */
  evidence: Json;
  raised_at: Millis;
  /** When it was found last. */
  seen_at: Millis;
  resolved_at: Millis | null;
  /** Who found it gone, `check` or `wipe`, or the key of the operator who said so. */
  resolved_by: string | null;
}

/** What proves that one disk was wiped in one boot, or says why it was not. */
export interface WipeCertificateRow {
  id: string;
  machine_id: string;
  session_id: string;
  disk: string;
  serial: string;
  model: string;
  bytes: number;
  /** `nvme-format`, `ata-secure-erase`, `discard`, `zero` …: what erased it; it reads as zeros after any of them. */
  method: string;
  started_at: Millis;
  ended_at: Millis;
  /** From which the places of the samples follow, hex. */
  seed: string;
  samples: number;
  sampled_bytes: number;
  /** SHA-256 of all that was read back, one sample after the other, hex. */
  digest: string;
  result: 'passed' | 'failed';
  reason: string | null;
}

/** A machine that is held: the primary key is why it can't have two holders. */
export interface AllocationRow {
  machine_id: string;
  attempt_id: string;
  tenant_id: string;
  claimed_at: Millis;
}
