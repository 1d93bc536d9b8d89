import type { Json, Millis } from './column-types.ts';

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
