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

/** What a simulated cluster holds: it survives this process as a real cluster would. */
export interface SimulatedResourceRow {
  cluster: string;
  kind: string;
  /** The key that it was created under. */
  name: string;
  /** As the cluster itself calls it. */
  id: string;
  tenant_id: string;
  details: Json;
  created_at: Millis;
  /** From when on it runs. */
  ready_at: Millis;
}

/** What a provider holds and nobody owns, from the moment that it was found until it is gone, or owned after all. */
export interface OrphanRow {
  id: string;
  provider: string;
  cluster: string | null;
  kind: string;
  /** The provider's id of it. */
  name: string;
  /** The key or attempt that it was made for. */
  made_for: string;
  found_at: Millis;
  /** Unless somebody owns it by then. */
  remove_at: Millis;
  /** JSON: why it could not be removed, at the last try. */
  failure: Json | null;
}
