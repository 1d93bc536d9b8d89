/**
 * Every table, as the code sees it. Times are milliseconds since the epoch, sizes bytes unless the name says otherwise,
 * `json` columns text. A row that belongs to a tenant says so. Migrations make these tables; `store-proof` compares.
 */
export interface Database {
  tenants: TenantRow;
  quotas: QuotaRow;
  api_keys: ApiKeyRow;
  sealed_keys: SealedKeyRow;
  regions: RegionRow;
  racks: RackRow;
  flavors: FlavorRow;
  images: ImageRow;
  subnets: SubnetRow;
  addresses: AddressRow;
  leases: LeaseRow;
  lease_epochs: LeaseEpochRow;
  foreign_dhcp_servers: ForeignDhcpServerRow;
  machines: MachineRow;
  machine_nics: MachineNicRow;
  machine_disks: MachineDiskRow;
  allocations: AllocationRow;
  install_plans: InstallPlanRow;
  boot_orders: BootOrderRow;
  boot_sessions: BootSessionRow;
  timeline: TimelineRow;
  requests: RequestRow;
  attempts: AttemptRow;
  deploy_stages: DeployStageRow;
  agents: AgentRow;
  sagas: SagaRow;
  saga_steps: SagaStepRow;
  saga_waits: SagaWaitRow;
  resources: ResourceRow;
  events: EventRow;
  event_positions: EventPositionRow;
  cursors: CursorRow;
}

type Json = string;
type Millis = number;

// — Tenants —

export interface TenantRow {
  id: string;
  name: string;
  created_at: Millis;
}

/** One row a tenant; `used_*` never passes `max_*`: reserved by one conditional update, and a CHECK behind it. */
export interface QuotaRow {
  tenant_id: string;
  max_servers: number;
  max_cores: number;
  max_memory_mib: number;
  max_disk_gib: number;
  used_servers: number;
  used_cores: number;
  used_memory_mib: number;
  used_disk_gib: number;
}

export interface ApiKeyRow {
  id: string;
  /** Null for an operator: an operator's key is nobody's tenant. */
  tenant_id: string | null;
  role: 'operator' | 'member';
  name: string;
  /** HMAC-SHA256 of the key under the appliance's key, hex. */
  hmac: string;
  created_at: Millis;
  revoked_at: Millis | null;
}

/** The appliance's own data keys, sealed under the master key: a new master key reseals these and nothing else changes. */
export interface SealedKeyRow {
  name: string;
  sealed: string;
}

// — Inventory —

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
  /** SHA-256 of the stored, compressed file, hex: its address in the image store. */
  sha256: string;
  bytes: number;
  raw_bytes: number;
  format: 'raw+zstd';
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

// — Network —

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

// — Boot —

/** Rendered once, frozen under the digest of its own text. */
export interface InstallPlanRow {
  /** SHA-256 of `body`, hex. */
  digest: string;
  tenant_id: string;
  body: Json;
  created_at: Millis;
}

/** What a machine shall do next. At most one is pending or claimed per machine (partial unique index). */
export interface BootOrderRow {
  id: string;
  machine_id: string;
  generation: number;
  verb: 'inspect' | 'wait' | 'install' | 'wipe' | 'local-disk';
  plan_digest: string | null;
  attempt_id: string | null;
  tenant_id: string | null;
  state: 'pending' | 'claimed' | 'consumed' | 'revoked';
  created_at: Millis;
  claimed_at: Millis | null;
  ended_at: Millis | null;
}

/** One boot of one machine, in a window that our own BMC command opened. */
export interface BootSessionRow {
  id: string;
  machine_id: string;
  order_id: string;
  generation: number;
  state: string;
  opened_at: Millis;
  /** Tokens are accepted until then. */
  window_until: Millis;
  /** When the BMC had taken the command that started this boot: null after a crash in between. */
  powered_at: Millis | null;
  /** SHA-256 of the claimant's nonce, hex. */
  nonce_hash: string | null;
  claimed_at: Millis | null;
  /** The last sign of life: what a stage's deadline counts from. */
  seen_at: Millis;
  ended_at: Millis | null;
  end_reason: string | null;
  /** JSON: `BootStages` of pxe/boot-session. */
  stages: Json;
}

/** Everything seen of a boot, on the appliance's clock. */
export interface TimelineRow {
  id: string;
  machine_id: string;
  session_id: string | null;
  at: Millis;
  source: 'dhcp' | 'tftp' | 'http' | 'bmc' | 'ramdisk' | 'agent' | 'saga' | 'alert' | 'console';
  name: string;
  detail: Json;
  /** JSON `{from, to, data}`: a datagram as it went over the wire, secrets masked, `data` in base64; null for all else. */
  packet: Json | null;
}

// — Requests —

export interface RequestRow {
  id: string;
  tenant_id: string;
  project: string;
  provider: string;
  hostname: string;
  region_id: string;
  flavor_id: string;
  image_id: string;
  /** JSON: ssh keys, user data, labels: what the caller sent, checked. */
  params: Json;
  state:
    | 'queued'
    | 'pending-approval'
    | 'allocating'
    | 'configuring'
    | 'activating'
    | 'verifying'
    | 'completed'
    | 'suspended'
    | 'failed'
    | 'rolling-back'
    | 'rolled-back'
    | 'deprovisioned';
  /** JSON: address, host key, agent: how to reach the server; null until known. */
  connection: Json | null;
  /** JSON: the error that ended it. */
  failure: Json | null;
  idempotency_key: string | null;
  /** SHA-256 of the request body the key was first used with. */
  idempotency_digest: string | null;
  created_by: string;
  created_at: Millis;
  updated_at: Millis;
  completed_at: Millis | null;
  ended_at: Millis | null;
}

export interface AttemptRow {
  id: string;
  request_id: string;
  tenant_id: string;
  number: number;
  saga_id: string;
  machine_id: string | null;
  path: 'cold' | 'warm';
  outcome: 'running' | 'succeeded' | 'failed' | 'cancelled';
  failure: Json | null;
  created_at: Millis;
  ended_at: Millis | null;
}

/** How long a stage of a completed deploy took; stage `total` is from the API call to SSH. */
export interface DeployStageRow {
  attempt_id: string;
  stage: string;
  tenant_id: string;
  region_id: string;
  model: string | null;
  firmware: 'bios' | 'uefi' | null;
  path: 'cold' | 'warm';
  milliseconds: number;
  ended_at: Millis;
}

/** The agent of one server; its credential is derived, never stored, and dead once `revoked_at` is set. */
export interface AgentRow {
  attempt_id: string;
  request_id: string;
  machine_id: string;
  tenant_id: string;
  protocol: number | null;
  host_key: string | null;
  phoned_home_at: Millis | null;
  heartbeat_at: Millis | null;
  /** JSON: load, memory and disk of the last heartbeat. */
  metrics: Json | null;
  created_at: Millis;
  revoked_at: Millis | null;
}

// — Sagas —

/** Every write of a saga is fenced by `epoch`; whoever holds a row with an unexpired lease is its owner. */
export interface SagaRow {
  id: string;
  name: string;
  version: number;
  tenant_id: string | null;
  /** What it is about: an attempt or a machine. */
  subject: string;
  params: Json;
  state: 'running' | 'completed' | 'undoing' | 'undone' | 'stuck';
  /** JSON: the error or order that turned it back; null while it goes forward. */
  reason: Json | null;
  owner: string | null;
  epoch: number;
  lease_expires_at: Millis;
  /** When it wants attention next; null once it has ended. */
  wake_at: Millis | null;
  created_at: Millis;
  ended_at: Millis | null;
}

export interface SagaStepRow {
  saga_id: string;
  name: string;
  ordinal: number;
  tenant_id: string | null;
  state: 'started' | 'waiting' | 'done' | 'failed' | 'undoing' | 'undone' | 'stuck' | 'skipped';
  tries: number;
  output: Json | null;
  error: Json | null;
  recheck_at: Millis | null;
  started_at: Millis;
  ended_at: Millis | null;
}

/** A saga that sleeps until an event of this type and key comes after `since`. */
export interface SagaWaitRow {
  saga_id: string;
  step: string;
  type: string;
  key: string;
  since: number;
}

/** An effect outside: the intent is written before it happens, so that a crash never leaves an unknown. */
export interface ResourceRow {
  saga_id: string;
  step: string;
  name: string;
  /** The idempotency key under which the provider knows it. */
  key: string;
  tenant_id: string | null;
  state: 'intended' | 'created' | 'deleting' | 'deleted';
  ref: Json | null;
  started_at: Millis;
  ended_at: Millis | null;
}

// — Events —

/** `position` is given after the commit, without gaps, in an order every reader agrees on. */
export interface EventRow {
  id: string;
  position: number | null;
  type: string;
  /** What it is about: the id that waits match on. */
  key: string;
  tenant_id: string | null;
  at: Millis;
  /** Who did it: an API key id, `saga`, `ramdisk`, … */
  actor: string;
  data: Json;
}

/** One row: the last position given. Updating it is the lock under which positions are given. */
export interface EventPositionRow {
  id: 1;
  last: number;
}

export interface CursorRow {
  consumer: string;
  position: number;
}
