import type { Json, Millis } from './column-types.ts';

export interface RequestRow {
  id: string;
  tenant_id: string;
  provider: string;
  /** Of the provider's; null where it has none. */
  cluster: string | null;
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
  /** Never null in what is admitted: SQLite adds no column that refers and may not be null to a table that is there. */
  project_id: string | null;
  /** Whose key asked; null for a program's. */
  user_id: string | null;
  /** When its lack of progress was last noticed. */
  progress_at: Millis | null;
  /** Since when nothing has held it up but that others are worked on; null while it waits for prerequisites. */
  ready_at: Millis | null;
  /** When its turn came to be worked on. */
  dispatched_at: Millis | null;
  created_by: string;
  created_at: Millis;
  updated_at: Millis;
  completed_at: Millis | null;
  ended_at: Millis | null;
}

/** One request waits until another is completed. */
export interface RequestPrerequisiteRow {
  request_id: string;
  prerequisite_id: string;
  tenant_id: string;
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
  failed_at: Millis | null;
  /** Whose fault it was that it failed, and why that is thought (`machines/blame.ts`). */
  blame: 'machine' | 'image' | 'network' | 'service' | 'unknown' | null;
  blame_reason: string | null;
  /** JSON: `PlacementReasons` of scheduler/placement: why this machine. */
  placement: Json | null;
  /** The attempt beside which it was begun, that one having taken too long; null in all but a hedge, of which one at most has a machine. */
  hedges: string | null;
  /** When another attempt of its request had its server first: this one is given back. */
  outrun_at: Millis | null;
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
