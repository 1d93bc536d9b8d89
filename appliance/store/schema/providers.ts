import type { Json, Millis } from './column-types.ts';

/** The manual provider waits for an administrator, who enters how a server is reached. */
export interface AccessEntryRow {
  attempt_id: string;
  tenant_id: string;
  asked_at: Millis;
  /** As `Connection`; null until it is entered. */
  connection: Json | null;
  /** The API key that entered it. */
  entered_by: string | null;
  entered_at: Millis | null;
}

/** What a simulated cluster holds: it survives this process as a real cluster would. At most one of a kind and name is alive. */
export interface SimulatedResourceRow {
  id: string;
  cluster: string;
  kind: string;
  name: string;
  tenant_id: string;
  attempt_id: string | null;
  state: string;
  details: Json;
  created_at: Millis;
  ready_at: Millis | null;
  deleted_at: Millis | null;
}
